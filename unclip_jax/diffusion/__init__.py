"""Diffusion processes: functions of arrays and denoisers, independent of any network.

The notation is that of DDPM (Ho et al. 2020, arXiv 2006.11239), with steps numbered 0..T-1. alpha_bar_t decreases from
nearly 1 to nearly 0. Step -1 is the clean sample, with alpha_bar = 1. `t` is always a step of the training schedule.
"""
