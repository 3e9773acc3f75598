// The number of CPUs that the process can keep busy.
#pragma once

#include <string>

namespace treadle {

// Returns how many CPUs the process may use at a time: those of its affinity mask (on macOS, which
// has none, all), or fewer where its cgroup or one above has a quota of CPU time (whole CPUs, at
// least one). The quota is read at the first call.
int usable_cpus();

// Returns the least quota of the process's cgroups, in CPUs, or infinity. `root` stands before the
// paths /proc/self/cgroup and /sys/fs/cgroup. Both versions of cgroups are read.
double cgroup_cpus(const std::string& root = "");

// Returns the number of threads that the environment variable TREADLE_NUM_THREADS asks for, or 0.
// Throws std::invalid_argument where it is no number in 1..1024.
int treadle_variable();

// Returns that of OMP_NUM_THREADS, the first of a list, or 0 where it is no such number.
int openmp_variable();

}  // namespace treadle
