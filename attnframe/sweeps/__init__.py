"""Many runs: jobs that know themselves again, through any launcher of Hydra."""
