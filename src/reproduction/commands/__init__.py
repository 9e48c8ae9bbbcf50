"""What `mlegfn nll`, `sample` and `finetune` do: one module a command."""
