"""The class of `TrainingArguments`: it reads the names of keyword arguments before an instance is made."""

import inspect
from typing import Any

from instar.api.arguments import spelling
from instar.api.arguments.faults import ArgumentError, guess


class Named(type):
    """Calling the class, or any subclass that users derive, accepts old spellings and names the unknown ones.

    TypeError lists every unknown name with the nearest known one, and then faulty values; ArgumentError lists every
    faulty value where all names are known.
    """

    @property
    def __signature__(cls) -> inspect.Signature:
        init = inspect.signature(cls.__init__)  # type: ignore[misc]
        return init.replace(parameters=list(init.parameters.values())[1:])

    def __call__(cls, *args: Any, **kwargs: Any) -> Any:
        parameters = inspect.signature(cls).parameters
        folder = kwargs.get("output_dir", args[0] if args else None)
        reading = spelling.read(kwargs, parameters, folder, stacklevel=2)
        is_open = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values())
        unknown = [] if is_open else [name for name in reading.values if name not in parameters]
        if unknown:
            known = [*parameters, *spelling.SPELLINGS]
            lines = [f"  {name}: no such argument{guess(name, known)}" for name in unknown]
            reading.values = {name: value for name, value in reading.values.items() if name not in unknown}
            faulty = cls._faulty(args, reading)
            lines += [] if faulty is None else [str(faulty)]
            raise TypeError("\n".join([f"{cls.__name__}: {len(unknown)} unknown:", *lines]))
        try:
            instance = super().__call__(*args, **reading.values)
        except ArgumentError as error:
            raise ArgumentError(cls.__name__, [*reading.faults, *error.faults]) from None
        if reading.faults:
            raise ArgumentError(cls.__name__, reading.faults)
        for name, value in reading.kept.items():
            setattr(instance, name, value)
        return instance

    def _faulty(cls, args: tuple[Any, ...], reading: spelling.Reading) -> ArgumentError | None:
        """What is wrong with values beside unknown names; None where nothing is."""
        faults = [*reading.faults]
        try:
            super().__call__(*args, **reading.values)
        except ArgumentError as error:
            faults += error.faults
        return ArgumentError(cls.__name__, faults) if faults else None
