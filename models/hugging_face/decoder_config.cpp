#include "models/hugging_face/decoder_config.h"

#include <algorithm>
#include <filesystem>
#include <fstream>

#include <nlohmann/json.hpp>

#include "models/errors.h"
#include "models/hugging_face/rotary_config.h"

namespace espalier {
namespace {

using nlohmann::json;

// Reads keys of one file; every complaint names it.
class ConfigReader {
 public:
  ConfigReader(std::string path, const json& values) : path_(std::move(path)), values_(values) {}

  [[noreturn]] void refuse(const std::string& key, const std::string& expected) const {
    const auto found = values_.find(key);
    throw WeightsError(path_ + ": " + key + " = " +
                       (found == values_.end() ? "(missing)" : found->dump()) + ", expected " +
                       expected);
  }

  bool has(const std::string& key) const {
    const auto found = values_.find(key);
    return found != values_.end() && !found->is_null();
  }

  int64_t size(const std::string& key) const {
    if (!has(key) || !values_[key].is_number_integer() || values_[key].get<int64_t>() <= 0) {
      refuse(key, "a positive whole number");
    }
    return values_[key].get<int64_t>();
  }
  int64_t size_or(const std::string& key, int64_t otherwise) const {
    return has(key) ? size(key) : otherwise;
  }
  double number_or(const std::string& key, double otherwise) const {
    if (!has(key)) return otherwise;
    if (!values_[key].is_number()) refuse(key, "a number");
    return values_[key].get<double>();
  }
  bool flag_or(const std::string& key, bool otherwise) const {
    if (!has(key)) return otherwise;
    if (!values_[key].is_boolean()) refuse(key, "true or false");
    return values_[key].get<bool>();
  }
  void must_be(const std::string& key, const std::string& wanted) const {
    if (has(key) && values_[key] != wanted) refuse(key, "\"" + wanted + "\"");
  }

 private:
  std::string path_;
  const json& values_;
};

void check_sizes(const ConfigReader& in, const DecoderConfig& c, bool has_head_dim) {
  if (!has_head_dim && c.width % c.heads != 0) {
    in.refuse("hidden_size", "a multiple of num_attention_heads = " + std::to_string(c.heads));
  }
  if (c.heads % c.kv_heads != 0) {
    in.refuse("num_key_value_heads",
              "a divisor of num_attention_heads = " + std::to_string(c.heads));
  }
  if (c.head_dim % 2 != 0) {
    in.refuse(has_head_dim ? "head_dim" : "hidden_size",
              "heads of even width, which rotary positions turn in pairs");
  }
}

// Attention in windows is not built. A file that has the setting switched off is ordinary.
void check_windows(const ConfigReader& in, const json& values) {
  if (in.flag_or("use_sliding_window", false)) {
    in.refuse("use_sliding_window", "false: attention in windows is not supported");
  }
  if (!in.has("layer_types")) return;
  for (const json& layer : values["layer_types"]) {
    if (layer != "full_attention") in.refuse("layer_types", "\"full_attention\" in every layer");
  }
}

}  // namespace

const std::vector<std::string>& decoder_model_types() {
  static const std::vector<std::string> types = {"qwen2", "llama"};
  return types;
}

json read_config_json(const std::string& folder) {
  const std::string path = folder + "/config.json";
  std::ifstream in(path);
  if (!in) {
    throw WeightsError(path +
                       ": cannot be read; a Hugging Face folder has a config.json beside "
                       "its safetensors");
  }
  const json values = json::parse(in, nullptr, /*allow_exceptions=*/false);
  if (!values.is_object()) throw WeightsError(path + ": is not a JSON object");
  return values;
}

DecoderConfig read_decoder_config(const std::string& folder) {
  const json values = read_config_json(folder);
  const ConfigReader in(folder + "/config.json", values);
  const auto& types = decoder_model_types();
  const std::string type = in.has("model_type") && values["model_type"].is_string()
                               ? values["model_type"].get<std::string>()
                               : "";
  if (std::find(types.begin(), types.end(), type) == types.end()) {
    in.refuse("model_type", "\"qwen2\" or \"llama\"");
  }
  in.must_be("hidden_act", "silu");
  check_windows(in, values);
  DecoderConfig c;
  c.model_type = type;
  c.width = in.size("hidden_size");
  c.heads = in.size("num_attention_heads");
  c.kv_heads = in.size_or("num_key_value_heads", c.heads);
  // Qwen2 has none in its configuration, but its code would take one.
  c.head_dim = in.size_or("head_dim", c.width / c.heads);
  check_sizes(in, c, in.has("head_dim"));
  c.feed_forward_width = in.size("intermediate_size");
  c.layers = in.size("num_hidden_layers");
  c.vocabulary_size = in.size("vocab_size");
  c.longest_sequence = in.size_or("max_position_embeddings", type == "qwen2" ? 32768 : 2048);
  c.norm_epsilon = in.number_or("rms_norm_eps", 1e-6);
  if (in.has("pad_token_id")) {
    if (!values["pad_token_id"].is_number_integer()) in.refuse("pad_token_id", "a token id");
    c.padding_id = values["pad_token_id"].get<int64_t>();
    // transformers counts a negative one from the end.
    if (c.padding_id < 0) c.padding_id += c.vocabulary_size;
    if (c.padding_id < 0 || c.padding_id >= c.vocabulary_size) {
      in.refuse("pad_token_id", "an id below vocab_size = " + std::to_string(c.vocabulary_size));
    }
  }
  c.attention_dropout = in.number_or("attention_dropout", 0.0);
  c.is_tied = in.flag_or("tie_word_embeddings", false);
  const bool has_bias = in.flag_or("attention_bias", false);
  c.query_key_value_bias = type == "qwen2" || has_bias;
  c.attention_out_bias = type == "llama" && has_bias;
  c.feed_forward_bias = type == "llama" && in.flag_or("mlp_bias", false);
  c.rotary = read_rotary_config(folder + "/config.json", values, c.longest_sequence);
  return c;
}

nlohmann::ordered_json decoder_config_json(const DecoderConfig& c, const std::string& dtype) {
  const bool is_llama = c.model_type == "llama";
  nlohmann::ordered_json out = {
      {"architectures", {is_llama ? "LlamaForCausalLM" : "Qwen2ForCausalLM"}},
      {"model_type", c.model_type},
      {"vocab_size", c.vocabulary_size},
      {"hidden_size", c.width},
      {"intermediate_size", c.feed_forward_width},
      {"num_hidden_layers", c.layers},
      {"num_attention_heads", c.heads},
      {"num_key_value_heads", c.kv_heads},
      {"head_dim", c.head_dim},
      {"hidden_act", "silu"},
      {"max_position_embeddings", c.longest_sequence},
      {"rms_norm_eps", c.norm_epsilon},
      {"tie_word_embeddings", c.is_tied}};
  if (c.padding_id >= 0) out["pad_token_id"] = c.padding_id;
  if (is_llama) {
    out["attention_bias"] = c.query_key_value_bias;
    out["mlp_bias"] = c.feed_forward_bias;
  } else {
    out["use_sliding_window"] = false;
  }
  write_rotary_config(c.rotary, out);
  out["torch_dtype"] = dtype;
  return out;
}

void apply(const DecoderConfig& c, YModelOptions& o) {
  o.width = c.width;
  o.heads = c.heads;
  o.kv_heads = c.kv_heads;
  o.head_dim = c.head_dim;
  o.feed_forward_width = c.feed_forward_width;
  o.query_key_value_bias = c.query_key_value_bias;
  o.attention_out_bias = c.attention_out_bias;
  o.feed_forward_bias = c.feed_forward_bias;
  o.has_tied_text_head = c.is_tied;
  o.vocabulary_size = c.vocabulary_size;
  o.padding_id = c.padding_id;
  o.norm_epsilon = c.norm_epsilon;
  o.rotary = c.rotary;
}

DecoderConfig decoder_config_of(const YModelOptions& o, int64_t branch, int64_t max_positions) {
  const BranchOptions& arm = o.branches.at(static_cast<size_t>(branch));
  const TransformerBlockOptions trunk = trunk_block(o), upper = branch_block(o, arm);
  if (upper != trunk) {
    throw WeightsError("branch \"" + arm.name +
                       "\" has other sizes than the trunk, so the two are no decoder of Qwen2's or "
                       "Llama's kind");
  }
  const bool is_llama = !o.query_key_value_bias || o.attention_out_bias || o.feed_forward_bias;
  return {.model_type = is_llama ? "llama" : "qwen2",
          .width = o.width,
          .heads = o.heads,
          .kv_heads = o.kv_heads,
          .head_dim = trunk.heads.head_dim,
          .feed_forward_width = o.feed_forward_width,
          .layers = o.trunk_layers + arm.layers,
          .vocabulary_size = o.vocabulary_size,
          .longest_sequence = max_positions,
          .norm_epsilon = o.norm_epsilon,
          .padding_id = o.padding_id,
          .is_tied = o.has_tied_text_head,
          .query_key_value_bias = o.query_key_value_bias,
          .attention_out_bias = o.attention_out_bias,
          .feed_forward_bias = o.feed_forward_bias,
          .rotary = o.rotary};
}

}  // namespace espalier
