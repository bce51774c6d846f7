#include "trainer/forward/forward_check.h"

#include <nlohmann/json.hpp>

#include "models/errors.h"
#include "models/hugging_face/decoder_config.h"
#include "trainer/export/run_export.h"
#include "trainer/forward/decoder_forward.h"
#include "trainer/forward/unified_forward.h"

namespace espalier {

const std::vector<ForwardModelType>& forward_model_types() {
  static const std::vector<ForwardModelType> types = {
      {"qwen2", kDecoderInputs, forward_decoder},
      {"llama", kDecoderInputs, forward_decoder},
      {kUnifiedModelType, kUnifiedInputs, forward_unified},
  };
  return types;
}

TensorMap run_forward(const ForwardRequest& request) {
  const nlohmann::json config = read_config_json(request.folder);
  std::string known;
  for (const ForwardModelType& type : forward_model_types()) {
    if (config.value("model_type", nlohmann::json()) == type.name) return type.run(request);
    known += (known.empty() ? "" : ", ") + type.name;
  }
  throw WeightsError(request.folder + "/config.json: model_type = " +
                     config.value("model_type", nlohmann::json("(missing)")).dump() +
                     ", expected one of " + known);
}

}  // namespace espalier
