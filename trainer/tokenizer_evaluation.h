#pragma once

#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "trainer/tokenizer_stage.h"

namespace espalier {

// The `tokenizer` object of a report, and a contact sheet of reconstructions. Work is split over
// ranks; what takes a teacher is left out when the config has none.
class TokenizerEvaluation {
 public:
  TokenizerEvaluation(const RunConfig& config, const StageConfig& stage, at::Device device)
      : config_(config), stage_(stage), device_(device) {}

  // Collective; valid on rank 0. `train` may be empty: it is read when the final metrics need it.
  nlohmann::json run(ImageTokenizer& model, const TokenizerData& train,
                     const at::Tensor& teacher_mean, Communicator& comm,
                     const EvaluationRequest& request);

 private:
  struct Rows {
    int64_t begin, count;
  };
  static Rows rows_of_rank(const Communicator& comm, int64_t total);
  at::Tensor model_images(const TokenizerData& data, Rows rows) const;  // [-1, 1], on the device

  const TokenizerData& test_data(Communicator& comm, const at::Tensor& teacher_mean,
                                 const EvaluationRequest& request);
  at::Tensor encode_all(ImageTokenizer& model, const TokenizerData& data, Communicator& comm) const;
  void add_pixels(ImageTokenizer& model, const TokenizerData& data, const at::Tensor& codes,
                  Communicator& comm, nlohmann::json& result) const;
  void add_teacher(ImageTokenizer& model, const TokenizerData& data, const at::Tensor& codes,
                   Communicator& comm, nlohmann::json& result) const;
  void add_groups(ImageTokenizer& model, const TokenizerData& train, const at::Tensor& train_codes,
                  const TokenizerData& test, const at::Tensor& test_codes, Communicator& comm,
                  nlohmann::json& result) const;
  std::string write_pictures(ImageTokenizer& model, const TokenizerData& data,
                             const at::Tensor& codes, const EvaluationRequest& request) const;

  const RunConfig& config_;
  const StageConfig& stage_;
  at::Device device_;
  TokenizerData train_;  // read here when the stage has none
  TokenizerData test_;
  std::vector<std::string> test_paths_;  // what test_ was read from
};

}  // namespace espalier
