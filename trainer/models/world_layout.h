#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include <ATen/core/Tensor.h>

#include "models/attention/attention_mask.h"
#include "trainer/masks/mask_file.h"

namespace espalier {

// Kinds of dreams, in the order in which their queries are made and their losses reported.
const std::vector<std::string>& dream_kinds();  // dynamic, depth, semantic, trajectory

// Which mask file, and what of its settings the model decides.
struct WorldLayoutOptions {
  std::string mask;                            // path
  std::vector<std::string> sets = {};          // "KEY=VALUE", for the settings that are left
  int64_t timesteps = 4;                       // K
  int64_t observation = 0;                     // tokens of a timestep
  std::map<std::string, int64_t> dreams = {};  // tokens of a timestep by kind; missing = none
  int64_t action = 0;
  std::string asked_by;  // for messages: "model.world"
};

// Where the tokens of a window of K timesteps lie, and who sees whom: what the mask file says. Its
// groups are text, state, observation, the kinds of dreams and action.
class WorldLayout {
 public:
  // Throws ConfigError: the file is wrong, a group is missing, unknown or has another number of
  // tokens than the model, lies outside of the timesteps, or sees a later timestep, which nobody
  // has who acts.
  explicit WorldLayout(WorldLayoutOptions options);

  int64_t timesteps() const { return options_.timesteps; }
  int64_t rows() const { return layout_.mask.rows(); }  // of a window
  // Rows of a window: (rows) int64, the number of its token when they are counted timestep by
  // timestep, groups in the order above. Undefined where both orders are the same.
  const at::Tensor& token_of_row() const { return token_of_row_; }
  // (K, tokens) int64: the rows of a group; tokens may be 0.
  const at::Tensor& rows_of(const std::string& group) const { return rows_of_.at(group); }
  // Both where the windows are computed; kept there.
  const at::Tensor& token_of_row(at::Device device) const;
  const at::Tensor& rows_of(const std::string& group, at::Device device) const;

  // For `samples` windows, one after another; made once for each number of them.
  struct Batch {
    AttentionMask mask;
    at::Tensor timestep;  // (samples * rows) int64
  };
  const Batch& batch(int64_t samples, at::Device device);

 private:
  void place_groups();
  void order_tokens();
  void check_time() const;
  [[noreturn]] void refuse(const std::string& why) const;

  WorldLayoutOptions options_;
  MaskFile file_;
  MaskLayout layout_;
  std::map<std::string, at::Tensor> rows_of_;
  at::Tensor token_of_row_;
  std::vector<int64_t> timestep_;
  std::map<int64_t, Batch> batches_;
  mutable std::map<std::string, at::Tensor> on_device_;  // by group, "" = token_of_row_
};

}  // namespace espalier
