"""The openb cluster of Alibaba: 1,213 nodes with 6,212 GPUs, and lists of pods for it.

`trace` reads the data, `inflation` lets pods arrive one by one under the `policies` (`fgd` is the
published one to beat), and `batch` plans a whole list at once.
"""
