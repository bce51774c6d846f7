#include "tests/trainer/forward/model_folder.h"

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>

#include <nlohmann/json.hpp>

#include "models/errors.h"
#include "trainer/errors.h"

namespace espalier {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

json read_json(const std::string& path) {
  std::ifstream in(path);
  return json::parse(in);
}

std::string made_folder() {
  std::string path = (fs::temp_directory_path() / "espalier-model-XXXXXX").string();
  return ::mkdtemp(path.data());
}

}  // namespace

std::vector<std::string> golden_models() {
  std::vector<std::string> names;
  for (const auto& entry : fs::directory_iterator(golden_model(""))) {
    names.push_back(entry.path().filename().string());
  }
  std::sort(names.begin(), names.end());
  return names;
}

std::string golden_model(const std::string& name) {
  return ESPALIER_SOURCE_DIR "/tests/parity/golden/hugging_face/" + name;
}

ForwardRequest forward_request(const std::string& folder) {
  const std::string inputs = folder + "/inputs.safetensors";
  return {.folder = folder,
          .inputs = fs::exists(inputs) ? read_safetensors(inputs) : TensorMap{},
          .inputs_path = inputs};
}

std::string refusal_of(const ForwardRequest& request) {
  try {
    run_forward(request);
  } catch (const WeightsError& error) {
    return error.what();
  } catch (const ConfigError& error) {
    return error.what();
  }
  return "";
}

ModelFolder::ModelFolder(const std::string& name_or_path) : path_(made_folder()) {
  const bool is_path = fs::path(name_or_path).is_absolute();
  fs::copy(is_path ? name_or_path : golden_model(name_or_path), path_, fs::copy_options::recursive);
}

ModelFolder::~ModelFolder() { fs::remove_all(path_); }

void ModelFolder::change_config(const std::function<void(json&)>& change) const {
  json config = read_json(path_ + "/config.json");
  change(config);
  std::ofstream(path_ + "/config.json") << config.dump();
}

void ModelFolder::change_weights(const std::function<void(TensorMap&)>& change) const {
  TensorMap weights = read_safetensors(path_ + "/model.safetensors");
  change(weights);
  write_safetensors(path_ + "/model.safetensors", weights);
}

void ModelFolder::cut_into_shards(size_t count) const {
  const TensorMap weights = read_safetensors(path_ + "/model.safetensors");
  fs::remove(path_ + "/model.safetensors");
  std::vector<TensorMap> shards(count);
  json map = json::object();
  size_t next = 0;
  for (const auto& [name, tensor] : weights) {
    const size_t shard = next++ % count;
    char file[64];
    std::snprintf(file, sizeof file, "model-%05zu-of-%05zu.safetensors", shard + 1, count);
    shards[shard][name] = tensor;
    map[name] = file;
  }
  for (size_t i = 0; i < count; ++i) {
    char file[64];
    std::snprintf(file, sizeof file, "/model-%05zu-of-%05zu.safetensors", i + 1, count);
    write_safetensors(path_ + file, shards[i]);
  }
  std::ofstream(path_ + "/model.safetensors.index.json") << json{{"weight_map", map}}.dump();
}

}  // namespace espalier
