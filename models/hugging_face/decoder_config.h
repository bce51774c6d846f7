#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include <nlohmann/json_fwd.hpp>

#include "models/decoder/y_model.h"

namespace espalier {

// config.json of a Hugging Face folder that holds a decoder of the Qwen2 or Llama family, as far as
// it says what the network computes.
struct DecoderConfig {
  std::string model_type;  // "qwen2", "llama"
  int64_t width = 0;
  int64_t heads = 0, kv_heads = 0, head_dim = 0;
  int64_t feed_forward_width = 0;
  int64_t layers = 0;
  int64_t vocabulary_size = 0;
  int64_t longest_sequence = 0;  // max_position_embeddings
  double norm_epsilon = 1e-6;
  int64_t padding_id = -1;         // pad_token_id: its embedding is not learned by reading it
  double attention_dropout = 0.0;  // read, so that who would need it can be refused
  bool is_tied = false;            // the text head is the embedding
  bool query_key_value_bias = false, attention_out_bias = false, feed_forward_bias = false;
  RotaryOptions rotary;
};

// The model types that read_decoder_config() knows.
const std::vector<std::string>& decoder_model_types();

// Reads FOLDER/config.json. WeightsError names the file, the key, what it says and what is
// supported: for a missing key, a size that does not divide, another architecture, activation or
// form of rope scaling, and sliding windows.
DecoderConfig read_decoder_config(const std::string& folder);

// The config.json that `transformers` opens a decoder with; `dtype` as it calls it, "float32".
nlohmann::ordered_json decoder_config_json(const DecoderConfig& config, const std::string& dtype);

// Sizes of trunk and text head. Branches, images and longest_sequence are left as they are in `o`.
void apply(const DecoderConfig& config, YModelOptions& o);
// What a Y-shaped decoder's trunk and its branch are, as one decoder; `max_positions` is what
// max_position_embeddings will say. WeightsError when the branch is of another width than the
// trunk: no such model type exists.
DecoderConfig decoder_config_of(const YModelOptions& o, int64_t branch, int64_t max_positions);

// FOLDER/config.json, whatever it describes; WeightsError when it is missing or no JSON object.
nlohmann::json read_config_json(const std::string& folder);

}  // namespace espalier
