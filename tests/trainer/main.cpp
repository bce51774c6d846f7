#include <gtest/gtest.h>

#include "toy_room.h"

int main(int argc, char** argv) {
  ::testing::InitGoogleTest(&argc, argv);
  espalier::add_toy(espalier::registry());  // the one line that makes the tests' room known
  return RUN_ALL_TESTS();
}
