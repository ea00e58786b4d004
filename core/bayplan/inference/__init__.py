"""What an InferenceDeployment stands for: its units and pods, what to do next, what to tell.

Pure functions over the object and the pods that there are; the operator carries out what they say.
"""
