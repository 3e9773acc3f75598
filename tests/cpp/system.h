// What tests ask the operating system for.
#pragma once

namespace treadle {

// Returns how many CPUs the process may use, quotas aside.
int allowed_cpus();

// Returns the CPU time that all threads of the process have taken.
double cpu_seconds();

// Sets a variable of the environment, or takes it away where the value is null.
void set_variable(const char* name, const char* value);

}  // namespace treadle
