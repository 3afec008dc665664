"""The keys of a DeepSpeed configuration that are read by table: what they become, or why they cannot."""

OPTIMIZERS = {
    "adam": "adamw_torch_fused",
    "adamw": "adamw_torch_fused",
    "fusedadam": "adamw_torch_fused",
    "deepspeedcpuadam": "adamw_torch_fused",
    "adagrad": "adagrad",
    "deepspeedcpuadagrad": "adagrad",
    "sgd": "sgd",
    "lion": "lion_32bit",
    "fusedlion": "lion_32bit",
    "muon": "muon",
}
SCHEDULES = {
    "WarmupLR": "constant_with_warmup",
    "WarmupDecayLR": "linear",
    "WarmupCosineLR": "cosine_with_min_lr",
}
ENGINE = (
    "allgather_bucket_size",
    "allgather_partitions",
    "contiguous_gradients",
    "elastic_checkpoint",
    "ignore_unused_parameters",
    "legacy_stage1",
    "load_from_fp32_weights",
    "memory_efficient_linear",
    "overlap_comm",
    "param_persistence_threshold",
    "pipeline_loading_checkpoint",
    "prefetch_bucket_size",
    "reduce_bucket_size",
    "reduce_scatter",
    "round_robin_gradients",
    "stage3_gather_16bit_weights_on_model_save",
    "stage3_gather_fp16_weights_on_model_save",
    "stage3_max_live_parameters",
    "stage3_max_reuse_distance",
    "stage3_param_persistence_threshold",
    "stage3_prefetch_bucket_size",
    "sub_group_size",
    "use_multi_rank_bucket_allreduce",
)
"""Keys of `zero_optimization` that set sizes and order of DeepSpeed's own exchanges."""
ZERO_PLUS = (
    "mics_hierarchical_params_gather",
    "mics_shard_size",
    "zero_hpz_partition_size",
    "zero_quantized_gradients",
    "zero_quantized_nontrainable_weights",
    "zero_quantized_weights",
)
PRINTED = ("steps_per_print", "wall_clock_breakdown", "memory_breakdown", "dump_state", "verbose")
SCALING = ("initial_scale_power", "loss_scale_window", "hysteresis", "consecutive_hysteresis", "min_loss_scale")
IGNORABLE = ("zero_allow_untested_optimizer", "zero_force_ds_cpu_optimizer", "aio", "checkpoint", "nebula")
REFUSED = {
    "amp": "apex is not used; write fp16 or bf16",
    "autotuning": "there is nothing of DeepSpeed to tune",
    "comms_logger": "DeepSpeed's exchanges are not used",
    "communication_data_type": "gradients are added up in their own type",
    "compression_training": "it is not supported",
    "csv_monitor": "write a callback, or report_to='tensorboard'",
    "curriculum_learning": "order the data in the training set",
    "data_efficiency": "order the data in the training set",
    "eigenvalue": "it is not supported",
    "elasticity": "torchrun restarts a run with the processes that are left",
    "flops_profiler": "use torch.profiler in a callback",
    "hybrid_engine": "it is not supported",
    "monitor_config": "write report_to",
    "pipeline": "a model is split by fsdp and tensor_parallel_size, not into a pipeline",
    "prescale_gradients": "gradients are added up first and divided once",
    "progressive_layer_drop": "it is not supported",
    "quantize_training": "it is not supported",
    "sequence_parallel_size": "sequence parallel is not supported",
    "sparse_attention": "choose the attention of the model",
    "sparse_gradients": "gradients are exchanged dense",
}
CHECKPOINTING = (
    "partition_activations",
    "cpu_checkpointing",
    "contiguous_memory_optimization",
    "number_checkpoints",
    "synchronize_checkpoint_boundary",
    "profile",
)
