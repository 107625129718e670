"""The code behind the lessons, in reading order: the module (or package), the lesson to read with it, what it is for.

  failures             00_start_here              errors that a lesson shows: caught, cleaned, printed
  checks               00_start_here              the checks of the exercises: outcomes, hints, solutions, progress
  plots                00_start_here              one look for all pictures, and diagrams
  data                 01a_titanic_torch          the Titanic passengers: load, check, split, turn into numbers
  checked_csv          01a_titanic_torch          a CSV file read strictly: a fault names its row, column and remedy
  loaders              01a_titanic_torch          torch's Dataset and DataLoader, and what leaves torch's world
  metrics              01a_titanic_torch          accuracy, confusion, cross-validation, baselines
  train.titanic_torch  01a_titanic_torch          the Titanic model and its loop in PyTorch
  batching             01b_titanic_nnx            batches of NumPy rows without torch
  timing               01b_titanic_nnx            the first call and the steady state, never mixed
  train.titanic_nnx    01b_titanic_nnx            the same model and loop in Flax NNX
  train.titanic_linen  01c_titanic_linen          and in Flax Linen
  optimizers           04_optimizers              what optax lacks and parity needs: AMSGrad, NAdam, plateaus, clipping
  porting              06_porting_layers          weights carried between PyTorch, NNX and Linen, models compared
  layers               06b_porting_sequences      what flax lacks and parity needs: biases, b_hn, variance, padding
  crepe                07b_real_checkpoint        a pitch tracker from a published checkpoint
  torch_compile        08_tracing                 which torch.compile backend this machine can run
  train.compiled       10_jit_speed               a whole training run as one compiled program
  train.rungs          10_jit_speed               one training loop in several forms, each faster than the last
  results              10_jit_speed               published benchmark results, which lessons show
  convnet              12_tracing_paper           a convolutional network in JAX and in PyTorch
  newton_cg            12_tracing_paper           truncated Newton-CG, in Python loops and in `lax.while_loop`
  sharding             13_many_devices            what a program sends between devices, what a device holds
  launch               14_many_processes          one program in several processes of this machine
  serve                15_ship_it                 a program of jax.export behind HTTP, on the loopback address
  taylor               17_taylor_mode             high derivatives of any JAX function, by jets
  stde                 18_stde                    linear differential operators, exact or estimated from samples
  pde                  19_million_dimensions      equations, known or one's own, and a compiled trainer
  train.resumable      19_million_dimensions      runs that survive being killed
  functional           22_functional_derivatives  functionals, functional derivatives, operators

This file imports nothing. Needs nothing but Python.
"""
