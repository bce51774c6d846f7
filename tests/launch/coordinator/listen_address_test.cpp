#include <gtest/gtest.h>

#include "launch/coordinator/control_server.h"
#include "trainer/errors.h"

namespace espalier {
namespace {

TEST(ListenAddress, NeedsTlsForAnythingButLoopback) {
  EXPECT_EQ(listen_address("127.0.0.1", false), "127.0.0.1");
  EXPECT_EQ(listen_address("localhost", false), "127.0.0.1");
  EXPECT_EQ(listen_address("0.0.0.0", true), "0.0.0.0");
  EXPECT_THROW(listen_address("0.0.0.0", false), ConfigError);
  EXPECT_THROW(listen_address("10.1.2.3", false), ConfigError);
  EXPECT_THROW(listen_address("no such host.invalid", true), ConfigError);
}

}  // namespace
}  // namespace espalier
