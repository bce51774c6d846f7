#pragma once

#include <functional>
#include <string>
#include <vector>

#include <nlohmann/json_fwd.hpp>

#include "trainer/forward/forward_check.h"

namespace espalier {

// Models that the public `transformers` made: names, and where one is.
std::vector<std::string> golden_models();
std::string golden_model(const std::string& name);

// With the inputs that lie beside the model `folder` was copied from.
ForwardRequest forward_request(const std::string& folder);

// What it is refused with, whichever of the two errors that is; "" when it is not.
std::string refusal_of(const ForwardRequest& request);

// A copy of one of them, or of the folder with an absolute path, to be spoiled; removed at the end.
class ModelFolder {
 public:
  explicit ModelFolder(const std::string& name_or_path);
  ~ModelFolder();
  ModelFolder(const ModelFolder&) = delete;
  ModelFolder& operator=(const ModelFolder&) = delete;

  const std::string& path() const { return path_; }
  void change_config(const std::function<void(nlohmann::json&)>& change) const;
  void change_weights(const std::function<void(TensorMap&)>& change) const;
  void cut_into_shards(size_t count) const;

 private:
  std::string path_;
};

}  // namespace espalier
