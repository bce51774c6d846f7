#include <gtest/gtest.h>

#include "interference/pulling_room.h"
#include "toy_room.h"

int main(int argc, char** argv) {
  ::testing::InitGoogleTest(&argc, argv);
  espalier::add_toy(espalier::registry());  // the lines that make the tests' rooms known
  espalier::add_pulling(espalier::registry());
  return RUN_ALL_TESTS();
}
