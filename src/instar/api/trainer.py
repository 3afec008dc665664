"""`Trainer`: the life cycle that users of Transformers know, on instar's one loop."""

from instar.api.construction import Construction
from instar.api.evaluating import Evaluating
from instar.api.hub import Hub
from instar.api.loading import Loading
from instar.api.optimizing import Optimizing
from instar.api.reporting import Reporting
from instar.api.saving import Saving
from instar.api.training import Training
from instar.api.tuning import Tuning


class Trainer(Construction, Training, Optimizing, Loading, Evaluating, Saving, Reporting, Hub, Tuning):
    """Trains, evaluates, saves and publishes a PyTorch model; takes the place of `transformers.Trainer`.

    Joined from mixins of one theme each. Subclass it and override what you need: every public method is called
    through `self`, with the arguments that its signature takes.
    """
