#pragma once

#include <array>
#include <cstdint>
#include <cstring>
#include <string>
#include <utility>
#include <vector>

#include <openssl/evp.h>
#include <nlohmann/json.hpp>

#include "data/images/image_codec.h"
#include "tests/data/test_files.h"
#include "tests/data/test_images.h"

namespace espalier {

struct StoredArray {
  std::string name;
  std::string type;
  std::vector<int64_t> shape;
  std::string bytes;
};

inline std::string float_bytes(const std::vector<float>& values) {
  std::string bytes(values.size() * sizeof(float), '\0');
  if (!values.empty()) std::memcpy(bytes.data(), values.data(), bytes.size());
  return bytes;
}

// A safetensors file of any header text and data.
inline std::string safetensors_text(const std::string& header, const std::string& data) {
  std::string length(8, '\0');
  const uint64_t size = header.size();
  std::memcpy(length.data(), &size, 8);
  return length + header + data;
}

inline std::string safetensors_of(const std::vector<StoredArray>& arrays) {
  nlohmann::json header = {{"__metadata__", {{"made_by", "a test"}}}};
  std::string data;
  for (const StoredArray& array : arrays) {
    header[array.name] = {{"dtype", array.type},
                          {"shape", array.shape},
                          {"data_offsets", {data.size(), data.size() + array.bytes.size()}}};
    data += array.bytes;
  }
  return safetensors_text(header.dump(), data);
}

inline std::string hexadecimal_sha256(const std::string& bytes) {
  std::array<uint8_t, 32> digest{};
  EVP_Digest(bytes.data(), bytes.size(), digest.data(), nullptr, EVP_sha256(), nullptr);
  std::string text;
  for (const uint8_t byte : digest) {
    char digits[3];
    std::snprintf(digits, sizeof digits, "%02x", byte);
    text += digits;
  }
  return text;
}

// Sizes of the test data sets: views of 6 x 4 pixels, 3 discrete actions, 2 numbers of state,
// depth from the one view and segmentation from the other.
inline constexpr int kTestHeight = 4;
inline constexpr int kTestWidth = 6;
inline constexpr int kTestActions = 3;
inline constexpr int kTestState = 2;
struct TestShape {
  int height = kTestHeight;
  int width = kTestWidth;
  int actions = kTestActions;  // 4 at most
  int state = kTestState;      // 4 at most
};

// What the members of an episode hold: changed by a test before they are packed.
struct StoredEpisode {
  std::string key = "00000000";
  nlohmann::json description;
  std::string primary;  // PNG files
  std::string wrist;
  std::vector<StoredArray> arrays;

  std::vector<std::pair<std::string, std::string>> members() const {
    return {{key + ".json", description.dump()},
            {key + ".primary.png", primary},
            {key + ".wrist.png", wrist},
            {key + ".safetensors", safetensors_of(arrays)}};
  }
};

inline Image strip_of(int steps, int salt, TestShape shape = {}) {
  Image image = test_pattern(shape.width, shape.height * steps);
  for (uint8_t& value : image.rgb) value = static_cast<uint8_t>(value + salt);
  return image;
}

inline StoredEpisode stored_episode(const std::string& key, const std::string& task, int64_t seed,
                                    int steps, TestShape shape = {}) {
  const int pixels = steps * shape.height * shape.width;
  std::vector<float> actions(static_cast<size_t>(steps * shape.actions), 0.0F);
  std::vector<float> state;
  for (int t = 0; t < steps; ++t) {
    actions[static_cast<size_t>(t * shape.actions + t % shape.actions)] = 1;
    for (int s = 0; s < shape.state; ++s) state.push_back(static_cast<float>(t) + 0.5F * s);
  }
  std::vector<float> depth;
  std::string segmentation;
  for (int i = 0; i < pixels; ++i) {
    depth.push_back(0.25F * static_cast<float>(i));
    segmentation.push_back(static_cast<char>(i % 5));
  }
  return {key,
          {{"instruction", "Go to the ball"},
           {"task", task},
           {"seed", seed},
           {"steps", steps},
           {"success", true},
           {"expert", "a rule"}},
          text_of(encode_png(strip_of(steps, 1, shape))),
          text_of(encode_png(strip_of(steps, 2, shape))),
          {{"actions", "F32", {steps, shape.actions}, float_bytes(actions)},
           {"state", "F32", {steps, shape.state}, float_bytes(state)},
           {"depth.primary", "F32", {steps, shape.height, shape.width}, float_bytes(depth)},
           {"segmentation.wrist", "U8", {steps, shape.height, shape.width}, segmentation}}};
}

// An episode data set on disk, in a folder that goes with the object.
class EpisodeFiles {
 public:
  explicit EpisodeFiles(TestShape shape = {}) {
    const auto first = [](std::vector<std::string> names, int count) {
      names.resize(static_cast<size_t>(count));
      return names;
    };
    const auto numbers = [](std::vector<double> values, int count) {
      values.resize(static_cast<size_t>(count), 1.0);
      return values;
    };
    index = {
        {"format", "espalier-episodes"},
        {"version", 1},
        {"name", "small"},
        {"simulator", "none"},
        {"packages", {{"minigrid", "3.2.0"}}},
        {"expert", "a rule"},
        {"command", "written by a test"},
        {"image",
         {{"views", {"primary", "wrist"}},
          {"height", shape.height},
          {"width", shape.width},
          {"channels", 3}}},
        {"state", {{"size", shape.state}, {"names", first({"x", "y", "z", "w"}, shape.state)}}},
        {"action",
         {{"kind", "discrete"},
          {"size", shape.actions},
          {"names", first({"left", "right", "go", "done"}, shape.actions)}}},
        {"depth", {"primary"}},
        {"segmentation", {"wrist"}},
        {"tasks", {"Reach", "Push"}},
        {"max_steps", {{"Reach", 20}, {"Push", 30}}},
        {"words", {"ball", "go", "the", "to"}},
        {"action_mean", numbers({0.25, 0.5, 0.25}, shape.actions)},
        {"action_std", numbers({0.001, 1, 2}, shape.actions)},
        {"state_mean", numbers({0, 1}, shape.state)},
        {"state_std", numbers({1, 1}, shape.state)},
        {"splits", nlohmann::json::object()},
        {"unseen_seeds", {1000, 1099}},
        {"shards", nlohmann::json::array()}};
    int64_t seed = 0;
    for (const char* split : {"train", "validation", "test"}) {
      index["splits"][split] = {{"seeds", {seed, seed + 99}}, {"episodes", 0}, {"steps", 0}};
      seed += 100;
    }
  }

  void add_shard(const std::string& file, const std::string& split,
                 const std::vector<StoredEpisode>& episodes) {
    std::string bytes;
    nlohmann::json list = nlohmann::json::array();
    for (const StoredEpisode& episode : episodes) {
      const size_t offset = bytes.size();
      for (const auto& [name, data] : episode.members()) bytes += tar_member(name, data);
      list.push_back({{"key", episode.key},
                      {"offset", offset},
                      {"bytes", bytes.size() - offset},
                      {"task", episode.description["task"]},
                      {"steps", episode.description["steps"]}});
      auto& counts = index["splits"][split];
      counts["episodes"] = counts["episodes"].get<int64_t>() + 1;
      counts["steps"] =
          counts["steps"].get<int64_t>() + episode.description["steps"].get<int64_t>();
    }
    bytes += tar_end();
    folder.write(file, bytes);
    index["shards"].push_back({{"file", file},
                               {"split", split},
                               {"bytes", bytes.size()},
                               {"sha256", hexadecimal_sha256(bytes)},
                               {"episodes", list}});
  }

  // Two shards of training episodes and one of the others: 5 episodes, 3 + 5 + 2 + 4 + 1 steps.
  void add_usual_shards() {
    add_shard(
        "train-00000.tar", "train",
        {stored_episode("00000000", "Reach", 7, 3), stored_episode("00000001", "Push", 8, 5)});
    add_shard("train-00001.tar", "train", {stored_episode("00000002", "Reach", 9, 2)});
    add_shard("validation-00000.tar", "validation", {stored_episode("00000003", "Push", 101, 4)});
    add_shard("test-00000.tar", "test", {stored_episode("00000004", "Reach", 299, 1)});
  }

  // Writes the index as it is now; returns its path.
  std::string write() const { return folder.write("index.json", index.dump()); }

  TemporaryFolder folder;
  nlohmann::json index;
};

}  // namespace espalier
