#include "data/episodes/array_member.h"

#include "data/errors.h"
#include "tests/data/episodes/episode_files.h"

namespace espalier {
namespace {

std::span<const uint8_t> span_of(const std::string& bytes) {
  return {reinterpret_cast<const uint8_t*>(bytes.data()), bytes.size()};
}

std::string refusal(const std::string& bytes) {
  return message_of<DataError>([&] { parse_array_members(span_of(bytes), "a.safetensors"); });
}

std::string refusal_of_header(const std::string& header, size_t data_bytes) {
  return refusal(safetensors_text(header, std::string(data_bytes, '\0')));
}

TEST(ArrayMembers, AreReadWithTypeShapeAndValues) {
  const std::string file = safetensors_of({{"x", "F32", {2, 2}, float_bytes({1, -2, 0.5F, 3e7F})},
                                           {"id", "U8", {3}, "\x01\xff\x07"},
                                           {"none", "F32", {0, 4}, ""}});

  const auto arrays = parse_array_members(span_of(file), "a");

  ASSERT_EQ(arrays.size(), 3U);
  EXPECT_EQ(describe(arrays.at("x").type, arrays.at("x").shape), "F32 [2, 2]");
  EXPECT_EQ(floats_of(arrays.at("x")), (std::vector<float>{1, -2, 0.5F, 3e7F}));
  EXPECT_EQ(bytes_of(arrays.at("id")), (std::vector<uint8_t>{1, 255, 7}));
  EXPECT_TRUE(floats_of(arrays.at("none")).empty());
  EXPECT_THROW(bytes_of(arrays.at("x")), std::logic_error);
}

TEST(ArrayMembers, RefuseAHeaderLengthBeyondTheFile) {
  expect_contains(refusal("1234567"), {"a.safetensors", "7 bytes"});
  expect_contains(refusal(std::string(8, '\xff') + "{}"), {"18446744073709551615", "has 2 after"});
  std::string long_header(8 + (3 << 20), ' ');
  const uint64_t length = 3 << 20;
  std::memcpy(long_header.data(), &length, 8);
  expect_contains(refusal(long_header), {"3145728", "1048576 are read at most"});
}

TEST(ArrayMembers, RefuseAHeaderThatIsNoJsonObject) {
  expect_contains(refusal_of_header("{\"x\":", 0), {"not JSON"});
  expect_contains(refusal_of_header("[1]", 0), {"not a JSON object"});
  expect_contains(refusal_of_header("{\"x\": 1e999}", 0), {"not JSON"});
  expect_contains(refusal_of_header("{\"x\": 1}", 0), {"array \"x\"", "expected an object"});
  EXPECT_THROW(parse_array_members(span_of(safetensors_text(std::string(500000, '['), "")), "a"),
               DataError);
}

TEST(ArrayMembers, RefuseOtherTypesAndMissingFields) {
  expect_contains(refusal_of_header(R"({"x":{"dtype":"F64","shape":[1],"data_offsets":[0,8]}})", 8),
                  {"array \"x\"", "dtype F64", "expected F32 or U8"});
  expect_contains(refusal_of_header(R"({"x":{"shape":[1],"data_offsets":[0,4]}})", 4),
                  {"dtype is missing"});
  expect_contains(refusal_of_header(R"({"x":{"dtype":"U8","data_offsets":[0,4]}})", 4), {"shape"});
  expect_contains(refusal_of_header(R"({"x":{"dtype":"U8","shape":[4]}})", 4), {"data_offsets"});
  expect_contains(refusal_of_header(R"({"x":{"dtype":"U8","shape":[-4],"data_offsets":[0,4]}})", 4),
                  {"shape"});
  expect_contains(
      refusal_of_header(R"({"x":{"dtype":"U8","shape":[4.0],"data_offsets":[0,4]}})", 4),
      {"shape"});
  expect_contains(
      refusal_of_header(R"({"x":{"dtype":"U8","shape":[1,1,1,1,1,1,1,1,4],"data_offsets":[0,4]}})",
                        4),
      {"at most 8"});
}

TEST(ArrayMembers, RefuseAnArrayThatIsDescribedTwice) {
  expect_contains(refusal_of_header(R"({"x":{"dtype":"U8","shape":[2],"data_offsets":[0,2]},
                                        "x":{"dtype":"U8","shape":[2],"data_offsets":[0,2]}})",
                                    2),
                  {"array \"x\" is described twice"});
}

TEST(ArrayMembers, RefuseShapesWhoseProductIsNotTheirBytes) {
  expect_contains(
      refusal_of_header(R"({"x":{"dtype":"F32","shape":[2,2],"data_offsets":[0,8]}})", 8),
      {"F32 [2, 2] does not fit the 8 bytes"});
  // 2^32 * 2^32 * 4 is 0 modulo 2^64; so is 2^62 * 4.
  for (const char* shape : {"[4294967296,4294967296]", "[4611686018427387904]",
                            "[9223372036854775807,9223372036854775807,2]"}) {
    expect_contains(refusal_of_header(R"({"x":{"dtype":"F32","shape":)" + std::string(shape) +
                                          R"(,"data_offsets":[0,0]}})",
                                      0),
                    {"does not fit"});
  }
}

TEST(ArrayMembers, RefuseOffsetsOutOfTheData) {
  for (const char* offsets : {"[0,5]", "[3,1]", "[0]", "[0,2,4]", "[0,18446744073709551615]",
                              "[9223372036854775807,9223372036854775807]"}) {
    expect_contains(
        refusal_of_header(
            R"({"x":{"dtype":"U8","shape":[4],"data_offsets":)" + std::string(offsets) + "}}", 4),
        {"array \"x\"", "data_offsets"});
  }
}

TEST(ArrayMembers, RefuseOverlapsAndGaps) {
  const auto two = [](const char* first, const char* second) {
    return R"({"x":{"dtype":"U8","shape":[2],"data_offsets":)" + std::string(first) +
           R"(},"y":{"dtype":"U8","shape":[2],"data_offsets":)" + second + "}}";
  };
  EXPECT_EQ(parse_array_members(span_of(safetensors_text(two("[2,4]", "[0,2]"), "abcd")), "a")
                .at("x")
                .bytes[0],
            'c');
  expect_contains(refusal_of_header(two("[0,2]", "[1,3]"), 3), {"array \"y\"", "expected 2"});
  expect_contains(refusal_of_header(two("[0,2]", "[0,2]"), 2), {"expected 2"});
  expect_contains(refusal_of_header(two("[0,2]", "[3,5]"), 5), {"begins at byte 3"});
  expect_contains(refusal_of_header(two("[0,2]", "[2,4]"), 5), {"end at byte 4", "has 5"});
}

}  // namespace
}  // namespace espalier
