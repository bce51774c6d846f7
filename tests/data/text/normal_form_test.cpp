#include "data/text/normal_form.h"

#include <gtest/gtest.h>

namespace espalier {
namespace {

TEST(NormalFormC, ComposesAndOrdersMarks) {
  EXPECT_EQ(normal_form_c("Cafe\u0301 \u1112\u1161\u11ab \u212b"), "Caf\u00e9 \ud55c \u00c5");
  EXPECT_EQ(normal_form_c("q\u0307\u0323"), "q\u0323\u0307");
  EXPECT_EQ(normal_form_c("plain, \u00e9 \u6f22"), "plain, \u00e9 \u6f22");
  EXPECT_EQ(normal_form_c(""), "");
}

TEST(NormalFormC, LeavesBytesThatAreNotUtf8WhereTheyAre) {
  EXPECT_EQ(normal_form_c("e\u0301\xFF\xCC"
                          "e\xCC\x81\x80"),
            "\u00e9\xFF\xCC\u00e9\x80");
  EXPECT_EQ(normal_form_c("e\xFF\u0301"), "e\xFF\u0301");
}

// U+0308 is of class 230 and U+1DF9, which came with Unicode 11, of class 220.
TEST(NormalFormC, LeavesMarksThatCameAfterUnicode9InTheirPlace) {
  EXPECT_EQ(normal_form_c("q\u0308\u1DF9"), "q\u0308\u1DF9");
  EXPECT_EQ(normal_form_c("q\u0308\u0323"), "q\u0323\u0308");
}

}  // namespace
}  // namespace espalier
