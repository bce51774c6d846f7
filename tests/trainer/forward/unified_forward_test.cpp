// `espalier forward` of an export beside what the run itself computes.
#include <filesystem>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/torch.h>

#include "models/layers/fused_ops.h"
#include "tests/models/close.h"
#include "tests/trainer/forward/unified_run.h"
#include "trainer/inference.h"
#include "trainer/models/residual_image_tokenizer.h"
#include "trainer/models/y_decoder.h"
#include "trainer/named/picture_semantics.h"
#include "trainer/objectives/draw/draw.h"
#include "trainer/objectives/reading.h"
#include "trainer/stage.h"

namespace espalier {
namespace {

// The run as it was exported, and its last stage as if it trained on.
class UnifiedForward : public ::testing::Test {
 protected:
  YDecoder& y() { return run_.things->model_as<YDecoder>("y", "a test"); }
  // A slot of the stage whose batch is a Batch.
  template <class Batch>
  SlotBatch slot_with() {
    for (int64_t slot = 0; slot < 4; ++slot) {
      SlotBatch found = stage_.load(0, slot);
      if (dynamic_cast<const Batch*>(found.parts.front().get()) != nullptr) return found;
    }
    throw std::logic_error("no slot has such a batch");
  }
  at::Tensor codes_of(const ImageRows& images) {
    return run_.things->image_codes("tokenizer", "emoji", "train", kViews)
        .codes.index({images.views, images.pictures})
        .to(at::kLong);
  }

  // Mean loss and gradients of a slot, by training's own code, against those of `request`.
  void expect_training(const SlotBatch& slot, const ForwardRequest& request) {
    y().module()->zero_grad();
    at::Tensor sum;
    for (const at::Tensor& loss : stage_.compute(slot)) {
      if (loss.defined()) sum = loss;
    }
    const double targets = slot.parts.front()->counts.front().targets;
    (sum / targets).backward();
    const TensorMap outputs = run_forward(request);
    EXPECT_TRUE(are_close(outputs.at("loss"), (sum / targets).detach(), 1e-5));
    for (const auto& item : y().module()->named_parameters()) {
      const std::string name = "grad.y." + item.key();
      ASSERT_EQ(outputs.contains(name), item.value().grad().defined()) << name;
      if (!outputs.contains(name)) continue;
      EXPECT_TRUE(are_close(outputs.at(name), item.value().grad(), 1e-5)) << name;
    }
  }

  InferenceRun run_ = load_for_inference({.run = unified_run().run});
  Stage stage_{*run_.things, run_.config->stages[1], /*for_training=*/true};
};

// The text ids of each sequence, of which `others` rows are of pictures.
std::vector<std::vector<int64_t>> texts_of(const TokenRows& rows, int64_t others) {
  std::vector<std::vector<int64_t>> texts;
  const int64_t* next = rows.text_ids.const_data_ptr<int64_t>();
  for (const MaskGroup& sequence : rows.mask.groups()) {
    texts.emplace_back(next, next + sequence.length - others);
    next += sequence.length - others;
  }
  return texts;
}

TEST_F(UnifiedForward, ABranchForTextHasTheLossAndTheGradientsOfTraining) {
  const SlotBatch slot = slot_with<ReadingBatch>();
  const auto& batch = dynamic_cast<const ReadingBatch&>(*slot.parts.front());
  const int64_t of_picture = UnifiedSizes::positions + 2;
  ForwardRequest request = reading_request(unified_run().folder);
  request.with_gradients = true;
  auto sequences = texts_of(batch.rows, of_picture);
  for (auto& sequence : sequences) {
    sequence.insert(sequence.begin(), -1);
    sequence.push_back(0);  // the column whose label is the end
  }
  set_sequences(sequences, request.inputs);
  request.inputs["codes"] = codes_of(batch.images);
  at::Tensor labels = at::full_like(request.inputs["input_ids"], -100);
  for (int64_t i = 0; i < batch.targets.size(0); ++i) {
    const auto row = batch.target_rows[i].item<int64_t>();
    int64_t b = 0;
    const auto& groups = batch.rows.mask.groups();
    while (row >= groups[static_cast<size_t>(b)].first + groups[static_cast<size_t>(b)].length) ++b;
    // Its column, the picture being one, and the next.
    const int64_t column = row - groups[static_cast<size_t>(b)].first - of_picture + 1;
    labels[b][column + 1] = batch.targets[i];
  }
  request.inputs["labels"] = labels;
  expect_training(slot, request);
}

TEST_F(UnifiedForward, ABranchForCodesHasTheLossAndTheGradientsOfTraining) {
  const SlotBatch slot = slot_with<DrawBatch>();
  const auto& batch = dynamic_cast<const DrawBatch&>(*slot.parts.front());
  ForwardRequest request = drawing_request(unified_run().folder);
  request.with_gradients = true;
  auto sequences = texts_of(batch.rows, UnifiedSizes::positions);
  for (auto& sequence : sequences) sequence.push_back(-1);
  set_sequences(sequences, request.inputs);
  request.inputs["codes"] = codes_of(batch.images);
  expect_training(slot, request);
}

TEST_F(UnifiedForward, AColumnOfTextHasTheOutputsOfItsLastRow) {
  const ForwardRequest request = reading_request(unified_run().folder);
  const TensorMap outputs = run_forward(request);
  // The second sequence alone, by hand: a token, two pictures between their marks, a token.
  const int64_t first_image = kFirstText + 2;
  std::vector<int64_t> sources = {kFirstText};
  for (int64_t picture = 0; picture < 2; ++picture) {
    sources.push_back(kBeginOfImage);
    for (int64_t p = 0; p < UnifiedSizes::positions; ++p) {
      sources.push_back(first_image + picture * UnifiedSizes::positions + p);
    }
    sources.push_back(kEndOfImage);
  }
  sources.push_back(kFirstText + 1);
  TokenRows rows;
  rows.text_ids = torch::tensor({9, 10}, at::kLong);
  rows.positions = at::arange(UnifiedSizes::positions, at::kLong).repeat({2});
  rows.pictures = at::arange(2, at::kLong).repeat_interleave(UnifiedSizes::positions);
  rows.sources = torch::tensor(sources, at::kLong);
  rows.mask = AttentionMask::from_lengths({std::ssize(sources)});
  const at::Tensor codes = request.inputs.at("codes").narrow(0, 1, 2);
  const at::Tensor semantics = picture_semantics(y().image_tokenizer().module(), codes);
  y().set_image_inputs(rows, codes, semantics);
  // A run is not asked for sequences of two pictures, so its table of positions is too short.
  YModelOptions longer = y().module()->options();
  longer.longest_sequence = std::ssize(sources);
  YModel module(longer);
  const torch::NoGradGuard no_grad;
  for (auto& item : module->named_parameters()) {
    item.value().copy_(y().module()->named_parameters()[item.key()]);
  }
  const int64_t branch = module->branch_index("understanding");
  const at::Tensor hidden = module->hidden(rows, branch);
  const at::Tensor of_columns = hidden.index_select(
      0, torch::tensor({int64_t{0}, UnifiedSizes::positions + 2, 2 * UnifiedSizes::positions + 4,
                        2 * UnifiedSizes::positions + 5}));
  EXPECT_TRUE(are_close(outputs.at("last_hidden_state")[1].narrow(0, 0, 4), of_columns, 1e-5));
  EXPECT_TRUE(are_close(outputs.at("logits")[1].narrow(0, 0, 4),
                        module->text_logits(of_columns, branch), 1e-5));
  EXPECT_EQ(outputs.at("logits")[1][4].abs().max().item<float>(), 0) << "padding";
  EXPECT_TRUE(are_close(outputs.at("semantics").narrow(0, 1, 2), semantics.to(at::kFloat), 1e-5));
}

TEST_F(UnifiedForward, LogitsOfCodesAreByPositionAndStageAndTheLossIsTheirMean) {
  const ForwardRequest request = drawing_request(unified_run().folder);
  const TensorMap outputs = run_forward(request);
  const at::Tensor& logits = outputs.at("logits");
  EXPECT_EQ(logits.sizes(),
            (std::vector<int64_t>{2, UnifiedSizes::positions, UnifiedSizes::pixel_stages,
                                  UnifiedSizes::codes}));
  const at::Tensor drawn =  // of sequences 0 and 1
      request.inputs.at("codes")
          .index_select(0, torch::tensor({0, 2}))
          .narrow(2, 0, UnifiedSizes::pixel_stages);
  const at::Tensor loss =
      composed_cross_entropy_sum(logits.reshape({-1, UnifiedSizes::codes}), drawn.reshape(-1)) /
      drawn.numel();
  EXPECT_TRUE(are_close(outputs.at("loss"), loss, 1e-5));
  EXPECT_EQ(outputs.at("last_hidden_state").sizes(),
            (std::vector<int64_t>{2, UnifiedSizes::positions, 32}));
}

TEST_F(UnifiedForward, ADrawnPictureIsPredictedFromWhatComesBeforeItAlone) {
  ForwardRequest request = drawing_request(unified_run().folder);
  const at::Tensor before = run_forward(request).at("logits");
  // The last position, and the last stage of the one before it, of the picture of sequence 1.
  at::Tensor& codes = request.inputs["codes"];
  codes = codes.clone();
  codes[2][UnifiedSizes::positions - 1] =
      (codes[2][UnifiedSizes::positions - 1] + 1) % UnifiedSizes::codes;
  const at::Tensor later = run_forward(request).at("logits");
  EXPECT_TRUE(later.narrow(1, 0, UnifiedSizes::positions - 1)
                  .equal(before.narrow(1, 0, UnifiedSizes::positions - 1)));
  EXPECT_TRUE(
      later[1][UnifiedSizes::positions - 1][0].equal(before[1][UnifiedSizes::positions - 1][0]));
  EXPECT_FALSE(
      later[1][UnifiedSizes::positions - 1][1].equal(before[1][UnifiedSizes::positions - 1][1]));
  codes[1] = (codes[1] + 1) % UnifiedSizes::codes;  // a picture that sequence 1 reads
  const at::Tensor other = run_forward(request).at("logits");
  EXPECT_TRUE(other[0].equal(before[0]));
  EXPECT_FALSE(other[1][0].equal(before[1][0]));
}

TEST_F(UnifiedForward, PaddingAndOtherSequencesChangeNothing) {
  for (const bool draws : {false, true}) {
    ForwardRequest both =
        draws ? drawing_request(unified_run().folder) : reading_request(unified_run().folder);
    both.with_hidden_states = true;
    ForwardRequest alone = both;
    alone.inputs.erase("attention_mask");
    const int64_t length = both.inputs.at("attention_mask")[1].sum().item<int64_t>();
    for (const char* name : {"input_ids", "labels"}) {
      if (!both.inputs.contains(name)) continue;
      alone.inputs[name] = both.inputs.at(name).narrow(0, 1, 1).narrow(1, 0, length);
    }
    alone.inputs["codes"] = both.inputs.at("codes").narrow(0, 1, 2);  // the first picture is of 0
    const TensorMap of_both = run_forward(both), of_one = run_forward(alone);
    for (const auto& [name, tensor] : of_one) {
      if (name == "loss" || name == "semantics") continue;
      const at::Tensor same = of_both.at(name).narrow(0, 1, 1).narrow(1, 0, tensor.size(1));
      EXPECT_TRUE(are_close(same, tensor, 1e-5)) << name << " " << draws;
    }
  }
}

TEST_F(UnifiedForward, WritesWhatIsAskedForAndNoMore) {
  ForwardRequest request = reading_request(unified_run().folder);
  const auto names = [&] {
    std::vector<std::string> found;
    for (const auto& [name, tensor] : run_forward(request)) {
      if (!name.starts_with("grad.")) found.push_back(name);
    }
    return found;
  };
  EXPECT_EQ(names(),
            (std::vector<std::string>{"last_hidden_state", "logits", "loss", "semantics"}));
  request.inputs.erase("labels");
  request.with_hidden_states = true;
  EXPECT_EQ(names(),
            (std::vector<std::string>{"hidden_states.0", "hidden_states.1", "hidden_states.2",
                                      "last_hidden_state", "logits", "semantics"}));
  // A text without pictures needs no codes.
  request.with_hidden_states = false;
  request.inputs.erase("codes");
  set_sequences({{5, 6}, {7}}, request.inputs);
  EXPECT_EQ(names(), (std::vector<std::string>{"last_hidden_state", "logits"}));
}

TEST_F(UnifiedForward, GradientsAreOfTheDecoderAlone) {
  ForwardRequest request = reading_request(unified_run().folder);
  request.with_gradients = true;
  for (const auto& [name, tensor] : run_forward(request)) {
    if (!name.starts_with("grad.")) continue;
    EXPECT_TRUE(name.starts_with("grad.y.")) << name;
    EXPECT_FALSE(name.starts_with("grad.y.branch.generation")) << name;
  }
}

TEST_F(UnifiedForward, InBfloat16IsNearFp32AndTrainingDropsNothing) {
  for (const bool draws : {false, true}) {
    ForwardRequest request =
        draws ? drawing_request(unified_run().folder) : reading_request(unified_run().folder);
    const TensorMap exact = run_forward(request);
    request.is_training = true;
    for (const auto& [name, tensor] : run_forward(request)) {
      EXPECT_TRUE(tensor.equal(exact.at(name))) << name;
    }
    request.type = at::kBFloat16;
    const at::Tensor rounded = run_forward(request).at("logits");
    EXPECT_FALSE(rounded.equal(exact.at("logits")));
    EXPECT_TRUE(are_close(rounded, exact.at("logits"), 3e-2));
  }
}

}  // namespace
}  // namespace espalier
