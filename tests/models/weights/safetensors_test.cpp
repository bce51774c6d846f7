#include "models/weights/safetensors.h"

#include <gtest/gtest.h>
#include <torch/torch.h>

#include <chrono>
#include <filesystem>
#include <fstream>

#include "models/errors.h"

namespace espalier {
namespace {

std::string scratch_file(const std::string& name) {
  const auto* test = testing::UnitTest::GetInstance()->current_test_info();
  return (std::filesystem::path(testing::TempDir()) /
          (std::string(test->name()) + "-" + name + ".safetensors"))
      .string();
}

std::string file_with(const std::string& name, const std::string& header, size_t data_bytes) {
  const std::string path = scratch_file(name);
  std::ofstream file(path, std::ios::binary);
  const uint64_t length = header.size();
  file.write(reinterpret_cast<const char*>(&length), sizeof length);
  file << header << std::string(data_bytes, '\0');
  return path;
}

std::string message_of(const std::string& path) {
  try {
    read_safetensors(path);
  } catch (const WeightsError& error) {
    return error.what();
  }
  return "no error";
}

TEST(Safetensors, ReadsBackEveryDtypeAndShapeItWrote) {
  torch::manual_seed(1);
  TensorMap tensors;
  for (const auto type : {torch::kBool, torch::kUInt8, torch::kInt32, torch::kInt64, torch::kHalf,
                          torch::kBFloat16, torch::kFloat, torch::kDouble}) {
    tensors[std::string("matrix.") + c10::toString(type)] = (torch::rand({3, 5}) * 7).to(type);
  }
  tensors["scalar"] = torch::tensor(2.5);
  tensors["empty"] = torch::empty({0, 4});
  tensors["transposed"] = torch::rand({2, 3}).t();
  const std::string path = scratch_file("all");

  write_safetensors(path, tensors, {{"format", "pt"}, {"step", "12"}});
  const TensorMap read = read_safetensors(path);

  ASSERT_EQ(read.size(), tensors.size());
  for (const auto& [name, tensor] : tensors) {
    ASSERT_TRUE(read.contains(name)) << name;
    EXPECT_EQ(read.at(name).scalar_type(), tensor.scalar_type()) << name;
    EXPECT_TRUE(torch::equal(read.at(name), tensor)) << name;
  }
  EXPECT_EQ(read_safetensors_metadata(path), (TextMap{{"format", "pt"}, {"step", "12"}}));
}

TEST(Safetensors, HeaderIsPaddedToEightBytesAndInNameOrder) {
  const std::string header =
      safetensors_header({{"b", torch::zeros({2})}, {"a", torch::zeros({1})}});
  EXPECT_EQ(header.size() % 8, 0U);
  EXPECT_EQ(header.substr(8, header.find_last_of('}') - 7),
            R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},)"
            R"("b":{"dtype":"F32","shape":[2],"data_offsets":[4,12]}})");
}

TEST(Safetensors, MissingFileIsNamed) {
  EXPECT_NE(message_of("/no/such/file.safetensors").find("/no/such/file.safetensors"),
            std::string::npos);
}

TEST(Safetensors, RefusesWhatTheFormatForbids) {
  const std::string one = R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}})";
  EXPECT_EQ(message_of(file_with("good", one, 8)), "no error");
  EXPECT_NE(message_of(file_with("short", one, 7)).find("cut short"), std::string::npos);
  EXPECT_NE(message_of(file_with("long", one, 9)).find("damaged"), std::string::npos);
  EXPECT_NE(message_of(file_with("twice",
                                 R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},)"
                                 R"("a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}})",
                                 8))
                .find("twice"),
            std::string::npos);
  EXPECT_NE(message_of(file_with("overlap",
                                 R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},)"
                                 R"("b":{"dtype":"F32","shape":[2],"data_offsets":[4,12]}})",
                                 12))
                .find("overlap"),
            std::string::npos);
  EXPECT_NE(message_of(
                file_with("hole", R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[4,12]}})", 12))
                .find("hole"),
            std::string::npos);
  EXPECT_NE(
      message_of(file_with("bytes", R"({"a":{"dtype":"F32","shape":[3],"data_offsets":[0,8]}})", 8))
          .find("data_offsets"),
      std::string::npos);
  EXPECT_NE(message_of(file_with("huge",
                                 R"({"a":{"dtype":"F32","shape":[4611686018427387904,4],)"
                                 R"("data_offsets":[0,0]}})",
                                 0))
                .find("overflows"),
            std::string::npos);
  EXPECT_NE(message_of(file_with("strides",
                                 R"({"a":{"dtype":"F32","shape":[0,9223372036854775807,)"
                                 R"(9223372036854775807],"data_offsets":[0,0]}})",
                                 0))
                .find("overflows"),
            std::string::npos);
  EXPECT_NE(
      message_of(file_with("dtype", R"({"a":{"dtype":"F33","shape":[2],"data_offsets":[0,8]}})", 8))
          .find("F33"),
      std::string::npos);
  EXPECT_NE(message_of(file_with("metadata", R"({"__metadata__":{"a":1}})", 0)).find("strings"),
            std::string::npos);
  EXPECT_NE(message_of(file_with("deep", R"({"a":[[[[[[1]]]]]]})", 0)).find("deeply"),
            std::string::npos);
  EXPECT_NE(message_of(file_with("json", "{", 0)).find("JSON"), std::string::npos);
  EXPECT_NE(message_of(file_with("nothing", "", 0)).find("not a safetensors"), std::string::npos);
}

// A check that looks at all names for each name took longer than five minutes.
TEST(Safetensors, HeaderOfTwoHundredThousandTensorsIsReadInSeconds) {
  std::string header = "{";
  for (int i = 0; i < 200000; ++i) {
    header += (i > 0 ? ",\"" : "\"") + std::to_string(i) +
              R"(":{"dtype":"F32","shape":[0],"data_offsets":[0,0]})";
  }
  const std::string path = file_with("many", header + "}", 0);
  const auto start = std::chrono::steady_clock::now();
  EXPECT_EQ(read_safetensors(path).size(), 200000U);
  EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(60));
}

TEST(Safetensors, CopyNamesTheFirstTensorsThatDoNotFit) {
  const TensorMap target{
      {"same", torch::zeros({2})}, {"shape", torch::zeros({2, 3})}, {"gone", torch::zeros({1})}};
  const TensorMap source{
      {"same", torch::ones({2})}, {"shape", torch::ones({3, 2})}, {"extra", torch::ones({1})}};
  try {
    copy_tensors(source, target, "run/weights.safetensors");
    FAIL() << "no error";
  } catch (const WeightsError& error) {
    const std::string message = error.what();
    for (const char* part : {"run/weights.safetensors", "\"gone\" is missing",
                             "\"shape\" is [3,2], the model has [2,3]", "\"extra\" is not in"}) {
      EXPECT_NE(message.find(part), std::string::npos) << message;
    }
  }
  EXPECT_TRUE(torch::equal(target.at("same"), torch::zeros({2}))) << "changed before the check";
}

}  // namespace
}  // namespace espalier
