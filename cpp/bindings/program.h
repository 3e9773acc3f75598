// Running a program on NumPy arrays.
#pragma once

#include <pybind11/pybind11.h>

#include <string>
#include <vector>

#include "engine/graph/program.h"

namespace treadle {

namespace py = pybind11;

// Returns the outputs as new arrays. `seconds`, if not null, has a number for each node, to which
// its time is added. Throws TypeError or ValueError for arrays that no program takes.
py::list run_program(const graph::Program& program, const std::string& function,
                     const py::sequence& arrays, std::vector<double>* seconds = nullptr);

}  // namespace treadle
