#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "data/shards/shard_dataset.h"
#include "data/text/byte_pair_tokenizer.h"
#include "models/decoder/sampling.h"
#include "models/decoder/y_model.h"
#include "models/image_tokenizer/image_tokenizer.h"
#include "trainer/config/run_config.h"
#include "trainer/image_codes.h"
#include "trainer/sequences.h"
#include "trainer/stage.h"
#include "trainer/update/task_schedule.h"

namespace espalier {

// `count` of 0..size-1, evenly spread; all of them when count is 0 or more than there are.
std::vector<int64_t> spread_indices(int64_t count, int64_t size);

// Trains the Y-shaped model on the frozen image tokenizer of an earlier stage: caption (image ->
// name) and group (image and question -> group) through the understanding branch, draw (name ->
// codes of the image) through the generation branch. One task per micro-batch.
class UnifiedStage : public Stage {
 public:
  enum Task { kCaption, kGroup, kDraw, kTasks };

  // What load() prepares on the prefetch thread: everything but the image codes themselves.
  struct Batch : MicroBatch {
    Task kind = kCaption;
    TokenRows rows;
    torch::Tensor target_rows, targets;
    torch::Tensor samples_of, views_of;  // (B) int64
  };

  explicit UnifiedStage(const StageContext& context);

  std::vector<ParameterGroup> parameter_groups() override;
  std::vector<std::string> loss_names() const override { return {"caption", "group", "draw"}; }
  std::vector<double> loss_weights() const override;
  std::unique_ptr<MicroBatch> load(int64_t step, int64_t slot) override;
  std::vector<at::Tensor> losses(const MicroBatch& batch, int64_t step) override;
  void after_optimizer(Communicator& comm, int64_t step) override;
  TensorMap state() override;
  void state_changed() override;
  nlohmann::json evaluate(Communicator& comm, const EvaluationRequest& request) override;
  std::string data_fingerprint() const override;

  // Inference, by the most likely tokens. Images are resized to the tokenizer's size.
  std::vector<std::string> caption(const std::vector<Image>& images);
  // Codes (texts, positions, stages). Text i draws its random numbers from (seed, streams[i]), so
  // what else is drawn with it makes no difference.
  torch::Tensor draw_codes(const std::vector<std::string>& texts,
                           const std::vector<int64_t>& streams, const SamplingOptions& sampling,
                           uint64_t seed);
  std::vector<Image> draw(const std::vector<std::string>& texts, const SamplingOptions& sampling,
                          uint64_t seed);
  SamplingOptions default_sampling() const;

  // For evaluation and tests.
  YModel& model() { return model_; }
  ImageTokenizer& image_tokenizer() { return image_tokenizer_; }
  const BytePairTokenizer& text() const { return *text_; }
  const std::vector<std::string>& groups() const { return groups_; }
  const ShardDataset& train_data() const { return *train_; }
  const std::vector<int64_t>& drawn() const { return drawn_; }  // training samples that are drawn
  const ImageCodes& train_codes() const { return codes_; }
  at::Device device() const { return device_; }
  const SequenceTokens& tokens() const { return tokens_; }
  std::vector<int64_t> encode(const std::string& text) const;
  std::vector<int64_t> prompt_of(Task task) const;
  // Image inputs of `codes` (samples, positions, stages) for sequences that read them.
  void set_image_inputs(TokenRows& rows, const torch::Tensor& codes,
                        const torch::Tensor& semantics) const;
  torch::Tensor draw_logits(const TokenRows& rows, const torch::Tensor& target_rows,
                            const torch::Tensor& code_sums);
  const torch::Tensor& codebooks() const { return codebooks_; }
  TokenRows to_device(TokenRows rows) const;

 private:
  void learn_text(bool for_training);
  void make_model();
  void require_codes();
  std::vector<at::Tensor> read_losses(const Batch& batch);
  std::vector<at::Tensor> draw_losses(const Batch& batch);

  const RunConfig& config_;
  const StageConfig& stage_;
  at::Device device_;
  Communicator& comm_;
  WorkListener on_work_;
  ImageTokenizer image_tokenizer_{nullptr};
  std::optional<ShardDataset> train_;
  std::string fingerprint_;
  std::optional<BytePairTokenizer> text_;
  SequenceTokens tokens_;
  std::vector<std::string> groups_;                  // sorted
  std::vector<std::vector<int64_t>> captions_;       // token ids by sample
  std::vector<std::vector<int64_t>> group_answers_;  // token ids by group
  std::vector<int64_t> group_of_;                    // by sample
  std::vector<int64_t> question_;
  std::vector<int64_t> drawn_;
  TaskSchedule schedule_;
  ImageCodes codes_;         // of the training set
  torch::Tensor codebooks_;  // scaled, pixel stages
  YModel model_{nullptr};
};

}  // namespace espalier
