#include "trainer/export/weight_shards.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <charconv>
#include <cmath>
#include <cstdio>

#include <ATen/core/Tensor.h>
#include <nlohmann/json.hpp>

#include "trainer/checkpoint/durable_file.h"
#include "trainer/errors.h"
#include "trainer/record/json_text.h"

namespace espalier {
namespace {

struct Unit {
  const char* name;
  double bytes;
};
constexpr std::array<Unit, 8> kUnits = {{{"", 1},
                                         {"B", 1},
                                         {"KB", 1e3},
                                         {"MB", 1e6},
                                         {"GB", 1e9},
                                         {"KIB", 1024.0},
                                         {"MIB", 1024.0 * 1024},
                                         {"GIB", 1024.0 * 1024 * 1024}}};

std::string shard_name(size_t number, size_t count) {
  if (count == 1) return "model.safetensors";
  std::array<char, 64> name{};
  std::snprintf(name.data(), name.size(), "model-%05zu-of-%05zu.safetensors", number, count);
  return name.data();
}

// "pt": what libraries that read these files ask for before they load them into PyTorch.
void write_shard(const std::string& path, const TensorMap& tensors) {
  write_durably(path, [&](const std::function<void(Piece)>& visit) {
    visit_safetensors(tensors, {{"format", "pt"}}, visit);
  });
}

}  // namespace

int64_t parse_size(const std::string& text, const std::string& asked_by) {
  double number = 0;
  const char* const end = text.data() + text.size();
  const auto [rest, error] = std::from_chars(text.data(), end, number);
  std::string unit;
  for (const char* c = rest; c != end; ++c) {
    if (*c != ' ') unit += static_cast<char>(std::toupper(static_cast<unsigned char>(*c)));
  }
  const auto known =
      std::find_if(kUnits.begin(), kUnits.end(), [&](const Unit& u) { return unit == u.name; });
  const double bytes = known == kUnits.end() ? 0 : number * known->bytes;
  if (error == std::errc() && bytes >= 1 && bytes < 9e18) return static_cast<int64_t>(bytes);
  throw ConfigError(asked_by + " " + text + " is no size; write 4GB, 500MB, 2GiB or bytes");
}

int64_t bytes_of(const TensorMap& tensors) {
  int64_t bytes = 0;
  for (const auto& [name, tensor] : tensors) bytes += static_cast<int64_t>(tensor.nbytes());
  return bytes;
}

std::vector<TensorMap> cut_into_shards(const TensorMap& tensors, int64_t max_bytes) {
  std::vector<TensorMap> shards(1);
  int64_t filled = 0;
  for (const auto& [name, tensor] : tensors) {
    const auto bytes = static_cast<int64_t>(tensor.nbytes());
    if (!shards.back().empty() && filled + bytes > max_bytes) {
      shards.emplace_back();
      filled = 0;
    }
    shards.back()[name] = tensor;
    filled += bytes;
  }
  return shards;
}

std::vector<std::string> write_weight_shards(const std::string& directory,
                                             const std::vector<TensorMap>& shards) {
  std::vector<std::string> files;
  nlohmann::json weight_map = nlohmann::json::object();
  int64_t total_bytes = 0;
  for (size_t i = 0; i < shards.size(); ++i) {
    files.push_back(shard_name(i + 1, shards.size()));
    write_shard(directory + "/" + files.back(), shards[i]);
    for (const auto& [name, tensor] : shards[i]) weight_map[name] = files.back();
    total_bytes += bytes_of(shards[i]);
  }
  if (shards.size() == 1) return files;
  files.emplace_back("model.safetensors.index.json");
  const nlohmann::json index = {{"metadata", {{"total_size", total_bytes}}},
                                {"weight_map", weight_map}};
  write_durably(directory + "/" + files.back(), json_text(index, 2) + "\n");
  return files;
}

}  // namespace espalier
