// runtime/cpu_count: quotas of cgroups, versions 1 and 2, and the environment's number of threads.
#include <doctest/doctest.h>

#include <cmath>
#include <filesystem>
#include <fstream>
#include <random>
#include <stdexcept>
#include <string>

#include "runtime/cpu_count.h"
#include "system.h"

namespace treadle {
namespace {

// A folder that stands for the root of the file system.
struct Root {
  std::string path;
  Root() {
    const std::string name = "treadle_cgroup_" + std::to_string(std::random_device{}());
    path = (std::filesystem::temp_directory_path() / name).string();
    REQUIRE(std::filesystem::create_directory(path));
  }
  ~Root() { std::filesystem::remove_all(path); }
  void write(const std::string& file, const std::string& text) {
    std::filesystem::create_directories(std::filesystem::path(path + file).parent_path());
    std::ofstream(path + file) << text;
  }
};

TEST_CASE("no cgroup, no quota") {
  Root root;
  CHECK(std::isinf(cgroup_cpus(root.path)));
  root.write("/proc/self/cgroup", "0::/\n");
  CHECK(std::isinf(cgroup_cpus(root.path)));
  root.write("/proc/self/cgroup", "nonsense\n:\n0\n");
  CHECK(std::isinf(cgroup_cpus(root.path)));
}

TEST_CASE("version 2: the least quota of the group and those above it") {
  Root root;
  root.write("/proc/self/cgroup", "0::/user/job\n");
  root.write("/sys/fs/cgroup/user/job/cpu.max", "max 100000\n");
  CHECK(std::isinf(cgroup_cpus(root.path)));
  root.write("/sys/fs/cgroup/user/job/cpu.max", "250000 100000\n");
  CHECK(cgroup_cpus(root.path) == 2.5);
  root.write("/sys/fs/cgroup/user/cpu.max", "50000 50000\n");
  CHECK(cgroup_cpus(root.path) == 1);
  root.write("/sys/fs/cgroup/user/cpu.max", "");
  CHECK(cgroup_cpus(root.path) == 2.5);
}

TEST_CASE("version 2 in a container, whose path only the host has") {
  Root root;
  root.write("/proc/self/cgroup", "0::/docker/123\n");
  root.write("/sys/fs/cgroup/cpu.max", "150000 100000\n");
  CHECK(cgroup_cpus(root.path) == 1.5);
}

TEST_CASE("version 1: with the controllers' names, and with cpu alone") {
  for (const char* mount : {"cpu,cpuacct", "cpu"}) {
    Root root;
    root.write("/proc/self/cgroup", "5:memory:/x\n4:cpu,cpuacct:/x/y\n1:name=systemd:/z\n0::/z\n");
    const std::string folder = std::string("/sys/fs/cgroup/") + mount;
    root.write(folder + "/x/y/cpu.cfs_quota_us", "-1\n");
    root.write(folder + "/x/y/cpu.cfs_period_us", "100000\n");
    CHECK(std::isinf(cgroup_cpus(root.path)));
    root.write(folder + "/x/cpu.cfs_quota_us", "400000\n");
    root.write(folder + "/x/cpu.cfs_period_us", "100000\n");
    CHECK(cgroup_cpus(root.path) == 4);
    root.write("/sys/fs/cgroup/memory/x/cpu.cfs_quota_us", "1000\n");
    CHECK(cgroup_cpus(root.path) == 4);
  }
}

TEST_CASE("there is a CPU to use, and no more than the process may use") {
  CHECK(usable_cpus() >= 1);
  CHECK(usable_cpus() <= allowed_cpus());
}

TEST_CASE("the environment: treadle's own variable before OpenMP's") {
  struct Case {
    const char *own, *openmp;
    int threads;
  };
  for (const Case& c : {Case{nullptr, nullptr, 0}, Case{"3", "5", 3}, Case{nullptr, "5", 5},
                        Case{"", "5", 5}, Case{nullptr, "4,2", 4}, Case{nullptr, " 6 ", 6},
                        Case{nullptr, "none", 0}, Case{nullptr, "0", 0}, Case{nullptr, "-2", 0},
                        Case{nullptr, "2x", 0}, Case{"1024", nullptr, 1024}}) {
    set_variable("TREADLE_NUM_THREADS", c.own);
    set_variable("OMP_NUM_THREADS", c.openmp);
    CHECK((treadle_variable() ? treadle_variable() : openmp_variable()) == c.threads);
  }
  for (const char* wrong : {"0", "-1", "1025", "two", "2,3", "99999999999999999999", "1.5"}) {
    set_variable("TREADLE_NUM_THREADS", wrong);
    CHECK_THROWS_AS(treadle_variable(), std::invalid_argument);
  }
}

}  // namespace
}  // namespace treadle
