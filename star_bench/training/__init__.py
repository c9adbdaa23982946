"""Pictures in, a better checkpoint out: STAR and Flow-GRPO, on the evaluators that also judge the result."""
