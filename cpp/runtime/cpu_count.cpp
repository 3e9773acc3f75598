#include "runtime/cpu_count.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <fstream>
#include <limits>
#include <sstream>
#include <stdexcept>
#include <thread>

#if defined(__linux__)
#include <sched.h>
#elif defined(_WIN32)
#define WIN32_LEAN_AND_MEAN
#define NOMINMAX
#include <windows.h>
#endif

namespace treadle {
namespace {

constexpr int kMostThreads = 1024;

// Returns the number of CPUs that the process was not forbidden, or 0 where the system does not
// tell. macOS has no masks.
int affinity_cpus() {
  int count = 0;
#if defined(__linux__)
  cpu_set_t set;
  CPU_ZERO(&set);
  if (sched_getaffinity(0, sizeof set, &set) == 0) count = CPU_COUNT(&set);
#elif defined(_WIN32)
  // The mask is 0 where threads of the process run in several groups of CPUs.
  DWORD_PTR process = 0, system = 0;
  if (GetProcessAffinityMask(GetCurrentProcess(), &process, &system)) {
    for (; process != 0; process &= process - 1) ++count;
  }
#endif
  return count;
}

// Returns a limit from the text of quota and period; none where the quota is "max" or negative.
double limit(const std::string& quota, const std::string& period) {
  const double time = std::atof(quota.c_str()), whole = std::atof(period.c_str());
  return time > 0 && whole > 0 ? time / whole : std::numeric_limits<double>::infinity();
}

std::string first_word(const std::string& file) {
  std::string word;
  std::ifstream(file) >> word;
  return word;
}

// Returns the limit of one group of cgroups version 2 or 1.
double group_limit(const std::string& folder) {
  std::string quota, period;
  if (std::ifstream(folder + "/cpu.max") >> quota >> period) return limit(quota, period);
  return limit(first_word(folder + "/cpu.cfs_quota_us"), first_word(folder + "/cpu.cfs_period_us"));
}

// Reads a number in 1..kMostThreads at the head of a list; 0 where there is none.
int parse_threads(const char* text, bool list) {
  char* end = nullptr;
  const long n = std::strtol(text, &end, 10);
  while (*end == ' ') ++end;
  const bool whole = end != text && (*end == '\0' || (list && *end == ','));
  return whole && n >= 1 && n <= kMostThreads ? static_cast<int>(n) : 0;
}

}  // namespace

double cgroup_cpus(const std::string& root) {
  double least = std::numeric_limits<double>::infinity();
  std::ifstream groups(root + "/proc/self/cgroup");
  // A line is number:controllers:path, without controllers for version 2.
  for (std::string line; std::getline(groups, line);) {
    std::istringstream fields(line);
    std::string number, controllers, path;
    std::getline(fields, number, ':');
    std::getline(fields, controllers, ':');
    std::getline(fields, path);
    std::istringstream names(controllers);
    bool cpu = controllers.empty();
    for (std::string name; std::getline(names, name, ',');) cpu = cpu || name == "cpu";
    if (!cpu) continue;
    // In a container the path may be one that only the host has: the groups above it count, too.
    for (const std::string& mount : {controllers, std::string("cpu")}) {
      if (controllers.empty() && !mount.empty()) continue;
      std::string group = path == "/" ? "" : path;
      for (;;) {
        least = std::min(least, group_limit(root + "/sys/fs/cgroup/" + mount + group));
        if (group.empty()) break;
        group.resize(group.rfind('/') == std::string::npos ? 0 : group.rfind('/'));
      }
    }
  }
  return least;
}

int usable_cpus() {
  static const double quota = cgroup_cpus();
  const int allowed = affinity_cpus();
  const double there = allowed > 0 ? allowed : std::thread::hardware_concurrency();
  const double cpus = std::min(there, std::floor(quota));
  return std::max(1, static_cast<int>(cpus));
}

int treadle_variable() {
  // A variable that is empty counts as one that is not there.
  const char* own = std::getenv("TREADLE_NUM_THREADS");
  if (!own || !*own) return 0;
  const int n = parse_threads(own, false);
  if (n) return n;
  throw std::invalid_argument("treadle: TREADLE_NUM_THREADS is '" + std::string(own) +
                              "', expected 1 to " + std::to_string(kMostThreads));
}

int openmp_variable() {
  const char* openmp = std::getenv("OMP_NUM_THREADS");
  return openmp ? parse_threads(openmp, true) : 0;
}

}  // namespace treadle
