"""The mathematics of diffusion: functions of arrays and of a denoiser, with no network in sight.

Notation of DDPM (arXiv 2006.11239) with steps numbered 0..T-1: alpha_bar_t falls from nearly 1 to nearly 0, and -1 is
the clean end, where alpha_bar is 1. `t` is always a step of the training schedule.
"""
