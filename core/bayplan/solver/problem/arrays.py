"""Arrays that nobody writes to: engines share them, and to write to one spoils the others' work."""

from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

_Scalar = TypeVar("_Scalar", bound=np.generic)


def sealed(array: NDArray[_Scalar]) -> NDArray[_Scalar]:
    """Return the array itself, to which writing is an error from now on: copy it first."""
    array.flags.writeable = False
    return array
