"""A small GPT on the course's own text, from one device to many machines. README.md says how to start.

| module | what |
|---|---|
| `config` | what a run is: one dataclass, each field an option of the command line |
| `model` | the GPT in Flax NNX |
| `sharding` | which array is split along which axis of the mesh: one table |
| `step` | the state and the training step, pure and compiled for any mesh |
| `data` | the text, its pieces, batches, and the 5-gram baseline |
| `train` | the program |
| `twin` | the same model in PyTorch |
| `plan` | memory, collectives and time of machines that one does not have |

Lessons: 13_many_devices, 14_many_processes.
"""
