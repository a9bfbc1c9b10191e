#include "primitives.cuh"
