#include "trainer/host/cores.h"

#include <sched.h>

#include <gtest/gtest.h>

namespace espalier {
namespace {

// Binds this thread to the first core it may use, as mpirun does, until the end of the test.
class BoundToOneCore {
 public:
  BoundToOneCore() {
    sched_getaffinity(0, sizeof before_, &before_);
    cpu_set_t one;
    CPU_ZERO(&one);
    for (int core = 0; core < CPU_SETSIZE; ++core) {
      if (!CPU_ISSET(core, &before_)) continue;
      CPU_SET(core, &one);
      break;
    }
    sched_setaffinity(0, sizeof one, &one);
  }
  ~BoundToOneCore() { sched_setaffinity(0, sizeof before_, &before_); }

 private:
  cpu_set_t before_;
};

TEST(UsableCores, AreThoseOfTheAffinityMask) {
  const int before = usable_cores();
  EXPECT_GE(before, 1);
  {
    const BoundToOneCore bound;
    EXPECT_EQ(usable_cores(), 1);
  }
  EXPECT_EQ(usable_cores(), before);
}

TEST(CoresPerRank, AreAtLeastOneHoweverManyRanksShareTheMachine) {
  EXPECT_EQ(cores_per_rank(100000), 1);
  EXPECT_LE(cores_per_rank(1), usable_cores());
}

TEST(CoresPerRank, AreNotDividedAgainWhenTheLauncherHasBoundTheRank) {
  const BoundToOneCore bound;
  EXPECT_EQ(cores_per_rank(1), 1);
  EXPECT_EQ(cores_per_rank(4), 1);
}

}  // namespace
}  // namespace espalier
