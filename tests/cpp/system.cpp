#include "system.h"

#include <stdlib.h>

#include <cstdint>
#include <thread>

#if defined(_WIN32)
#define WIN32_LEAN_AND_MEAN
#define NOMINMAX
#include <windows.h>
#else
#include <sched.h>
#include <time.h>
#endif

namespace treadle {

int allowed_cpus() {
#if defined(__linux__)
  cpu_set_t set;
  CPU_ZERO(&set);
  if (sched_getaffinity(0, sizeof set, &set) == 0) return CPU_COUNT(&set);
#endif
  return static_cast<int>(std::thread::hardware_concurrency());
}

double cpu_seconds() {
#if defined(_WIN32)
  FILETIME begin, end, kernel, user;
  GetProcessTimes(GetCurrentProcess(), &begin, &end, &kernel, &user);
  const auto ticks = [](const FILETIME& time) {
    return static_cast<double>(static_cast<std::uint64_t>(time.dwHighDateTime) << 32 |
                               time.dwLowDateTime);
  };
  return 1e-7 * (ticks(kernel) + ticks(user));
#else
  timespec time;
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time);
  return static_cast<double>(time.tv_sec) + 1e-9 * static_cast<double>(time.tv_nsec);
#endif
}

void set_variable(const char* name, const char* value) {
#if defined(_WIN32)
  _putenv_s(name, value ? value : "");  // an empty value takes the variable away
#else
  value ? setenv(name, value, 1) : unsetenv(name);
#endif
}

}  // namespace treadle
