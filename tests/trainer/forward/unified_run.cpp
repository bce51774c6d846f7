#include "tests/trainer/forward/unified_run.h"

#include <algorithm>

#include <torch/torch.h>

#include "tests/trainer/real_things.h"
#include "tests/trainer/toy_room.h"
#include "trainer/export/run_export.h"

namespace espalier {

const UnifiedRun& unified_run() {
  static const UnifiedRun made = [] {
    UnifiedRun run{fresh_directory("run"), fresh_directory("exports") + "/all"};
    train_toy(small_config(run.run, {"data.emoji.validation=[]", "data.emoji.test=[]"}), 1);
    export_run({.run = run.run, .to = run.folder});
    return run;
  }();
  return made;
}

void set_sequences(const std::vector<std::vector<int64_t>>& sequences, TensorMap& inputs) {
  constexpr int64_t kNothing = 1000000;
  size_t columns = 0;
  for (const auto& sequence : sequences) columns = std::max(columns, sequence.size());
  const auto batch = std::ssize(sequences);
  at::Tensor ids = at::full({batch, static_cast<int64_t>(columns)}, kNothing, at::kLong);
  for (int64_t b = 0; b < batch; ++b) {
    const auto& sequence = sequences[static_cast<size_t>(b)];
    ids[b].narrow(0, 0, std::ssize(sequence)).copy_(torch::tensor(sequence, at::kLong));
  }
  inputs["input_ids"] = ids;
  inputs["attention_mask"] = ids.ne(kNothing).to(at::kLong);
}

at::Tensor random_codes(int64_t pictures) {
  torch::manual_seed(11);
  return at::randint(UnifiedSizes::codes, {pictures, UnifiedSizes::positions, UnifiedSizes::stages},
                     at::kLong);
}

ForwardRequest reading_request(const std::string& folder) {
  ForwardRequest request{.folder = folder, .inputs = {}, .inputs_path = "in.safetensors"};
  request.inputs["branch"] = torch::tensor({kUnderstanding}, at::kLong);
  set_sequences({{-1, 5, 6, 7, 8}, {9, -1, -1, 10}}, request.inputs);
  request.inputs["codes"] = random_codes(3);
  request.inputs["labels"] =
      torch::tensor({-100, -100, 6, 7, 8, 9, -100, -100, 10, 0}, at::kLong).view({2, 5});
  return request;
}

ForwardRequest drawing_request(const std::string& folder) {
  ForwardRequest request{.folder = folder, .inputs = {}, .inputs_path = "in.safetensors"};
  request.inputs["branch"] = torch::tensor({kGeneration}, at::kLong);
  set_sequences({{5, 6, 7, -1}, {-1, 8, -1}}, request.inputs);
  request.inputs["codes"] = random_codes(3);
  return request;
}

}  // namespace espalier
