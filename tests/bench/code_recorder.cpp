#include "tests/bench/code_recorder.h"

#include <cstdio>

#include <torch/torch.h>

#include "trainer/models/residual_image_tokenizer.h"
#include "trainer/objectives/residual_evolution/residual_evolution.h"
#include "trainer/update/precision.h"

namespace espalier {

void CodeRecorder::before_step(int64_t step) {
  const StageConfig& config = stage_.config();
  auto* model = dynamic_cast<ResidualImageTokenizer*>(&things_.model(config.trains));
  if (model == nullptr) return;
  const int64_t per_rank = config.slots() / things_.comm().size();
  for (int64_t i = 0; i < per_rank; ++i) {
    const int64_t slot = things_.comm().rank() * per_rank + i;
    const SlotBatch batch = stage_.load(step, slot);
    for (const auto& part : batch.parts) {
      const auto* images = dynamic_cast<const ResidualEvolutionBatch*>(part.get());
      if (images == nullptr) continue;
      const PrecisionGuard guard(at::kCPU, config.precision);
      const TokenizerLosses losses = model->module()->losses(images->inputs);
      char name[48];
      std::snprintf(name, sizeof name, "codes.%04d.%04d", static_cast<int>(step),
                    static_cast<int>(slot));
      codes_[name] = losses.quantized.codes.to(at::kInt);
    }
  }
}

void CodeRecorder::write(const std::string& path) const { write_safetensors(path, codes_, {}); }

}  // namespace espalier
