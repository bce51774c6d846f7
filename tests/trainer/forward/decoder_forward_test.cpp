// `espalier forward` against the public `transformers`: tests/parity/dump_hugging_face.py made the
// models and what it computes with them.
#include "trainer/forward/forward_check.h"

#include <filesystem>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/torch.h>
#include <nlohmann/json.hpp>

#include "tests/models/close.h"
#include "tests/trainer/forward/model_folder.h"

namespace espalier {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

class PublicDecoder : public ::testing::TestWithParam<std::string> {
 protected:
  std::string folder_ = golden_model(GetParam());
};

TEST_P(PublicDecoder, HasEqualOutputsAndGradients) {
  ForwardRequest request = forward_request(folder_);
  request.with_gradients = request.with_hidden_states = true;
  const TensorMap actual = run_forward(request);
  const TensorMap expected = read_safetensors(folder_ + "/outputs.safetensors");
  for (const auto& [name, tensor] : expected) {
    ASSERT_TRUE(actual.contains(name)) << name;
    // Rows of padding on the left see nothing; the library lets them see themselves.
    at::Tensor ours = actual.at(name), theirs = tensor;
    if (GetParam() == "qwen2-odd-heads" && theirs.dim() == 3) {
      const at::Tensor mask = request.inputs.at("attention_mask").unsqueeze(-1);
      theirs = theirs * mask;
      EXPECT_TRUE(torch::equal(ours, ours * mask)) << name;
    }
    EXPECT_TRUE(are_close(ours, theirs, 1e-5)) << name;
  }
  EXPECT_EQ(actual.size(), expected.size());
}

INSTANTIATE_TEST_SUITE_P(Transformers, PublicDecoder, ::testing::ValuesIn(golden_models()),
                         [](const auto& test) {
                           std::string name = test.param;
                           std::replace(name.begin(), name.end(), '-', '_');
                           return name;
                         });

TEST(ForwardCheck, WritesHiddenStatesAndGradientsOnlyWhenAsked) {
  const TensorMap outputs = run_forward(forward_request(golden_model("llama")));
  std::vector<std::string> names;
  for (const auto& [name, tensor] : outputs) names.push_back(name);
  EXPECT_EQ(names, (std::vector<std::string>{"last_hidden_state", "logits", "loss"}));
}

TEST(ForwardCheck, InBfloat16IsNearFp32) {
  ForwardRequest request = forward_request(golden_model("llama"));
  const at::Tensor exact = run_forward(request).at("logits");
  request.type = at::kBFloat16;
  const at::Tensor rounded = run_forward(request).at("logits");
  EXPECT_FALSE(torch::equal(exact, rounded));
  EXPECT_TRUE(are_close(rounded, exact, 3e-2));
}

TEST(ForwardCheck, ReadsShardsAsItReadsOneFile) {
  const ModelFolder whole("qwen2-grouped-tied"), cut("qwen2-grouped-tied");
  cut.cut_into_shards(3);
  const TensorMap a = run_forward(forward_request(whole.path()));
  const TensorMap b = run_forward(forward_request(cut.path()));
  for (const auto& [name, tensor] : a) EXPECT_TRUE(torch::equal(tensor, b.at(name))) << name;
}

TEST(ForwardCheck, ReadsWeightsOfOtherTypesIntoItsOwn) {
  const ModelFolder folder("llama");
  folder.change_weights([](TensorMap& weights) {
    for (auto& [name, tensor] : weights) tensor = tensor.to(at::kBFloat16);
  });
  const TensorMap rounded = run_forward(forward_request(folder.path()));
  const TensorMap exact = run_forward(forward_request(golden_model("llama")));
  EXPECT_TRUE(are_close(rounded.at("logits"), exact.at("logits"), 3e-2));
}

TEST(ForwardCheck, RefusesAnotherArchitectureNamingThoseItKnows) {
  const ModelFolder folder("llama");
  folder.change_config([](nlohmann::json& config) { config["model_type"] = "bert"; });
  EXPECT_THAT(refusal_of(forward_request(folder.path())),
              AllOf(HasSubstr("config.json: model_type = \"bert\""), HasSubstr("qwen2, llama")));
}

TEST(ForwardCheck, RefusesAnUnknownFormOfRopeScaling) {
  const ModelFolder folder("llama-yarn");
  folder.change_config(
      [](nlohmann::json& config) { config["rope_parameters"]["rope_type"] = "spiral"; });
  EXPECT_THAT(refusal_of(forward_request(folder.path())),
              AllOf(HasSubstr("config.json: rope_parameters.rope_type = \"spiral\""),
                    HasSubstr("default, linear, dynamic, yarn, longrope, llama3")));
}

TEST(ForwardCheck, NamesTheKeyOfAConfigurationThatIsMissingOrCannotBe) {
  const ModelFolder missing("llama"), odd("llama"), windows("qwen2-untied"), act("llama");
  missing.change_config([](nlohmann::json& config) { config.erase("hidden_size"); });
  EXPECT_THAT(refusal_of(forward_request(missing.path())),
              HasSubstr("hidden_size = (missing), expected a positive whole number"));
  odd.change_config([](nlohmann::json& config) { config["num_key_value_heads"] = 3; });
  EXPECT_THAT(refusal_of(forward_request(odd.path())),
              HasSubstr("num_key_value_heads = 3, expected a divisor of num_attention_heads = 4"));
  windows.change_config([](nlohmann::json& config) { config["use_sliding_window"] = true; });
  EXPECT_THAT(refusal_of(forward_request(windows.path())), HasSubstr("use_sliding_window = true"));
  act.change_config([](nlohmann::json& config) { config["hidden_act"] = "gelu"; });
  EXPECT_THAT(refusal_of(forward_request(act.path())),
              HasSubstr("hidden_act = \"gelu\", expected \"silu\""));
}

TEST(ForwardCheck, NamesATensorOfAnotherShapeWithBothShapes) {
  const ModelFolder folder("llama");
  folder.change_config([](nlohmann::json& config) { config["intermediate_size"] = 48; });
  EXPECT_THAT(refusal_of(forward_request(folder.path())),
              AllOf(HasSubstr("model.safetensors: tensor \"model.layers.0.mlp.gate_proj.weight\""),
                    HasSubstr("[40,24]"), HasSubstr("[48,24]")));
}

TEST(ForwardCheck, NamesATensorThatIsMissingAndOneThatHasNoPlace) {
  const ModelFolder less("llama"), more("llama");
  less.change_weights(
      [](TensorMap& weights) { weights.erase("model.layers.1.mlp.up_proj.weight"); });
  EXPECT_THAT(refusal_of(forward_request(less.path())),
              HasSubstr("has no tensor \"model.layers.1.mlp.up_proj.weight\""));
  more.change_weights([](TensorMap& weights) { weights["model.extra.weight"] = at::zeros({2}); });
  EXPECT_THAT(refusal_of(forward_request(more.path())),
              HasSubstr("tensor \"model.extra.weight\" has no place"));
}

TEST(ForwardCheck, NamesAShardThatIsMissing) {
  const ModelFolder folder("llama");
  folder.cut_into_shards(3);
  std::filesystem::remove(folder.path() + "/model-00002-of-00003.safetensors");
  EXPECT_THAT(refusal_of(forward_request(folder.path())),
              AllOf(HasSubstr("model-00002-of-00003.safetensors: is missing"),
                    HasSubstr("model.safetensors.index.json says that")));
}

TEST(ForwardCheck, SaysWhereWeightsShouldBe) {
  const ModelFolder folder("llama");
  std::filesystem::rename(folder.path() + "/model.safetensors",
                          folder.path() + "/pytorch_model.bin");
  EXPECT_THAT(refusal_of(forward_request(folder.path())),
              AllOf(HasSubstr("neither model.safetensors nor model.safetensors.index.json"),
                    HasSubstr("safe_serialization")));
  EXPECT_THAT(refusal_of(forward_request(folder.path() + "/nowhere")),
              HasSubstr("nowhere/config.json: cannot be read"));
}

TEST(ForwardCheck, NamesInputsThatDoNotFit) {
  const std::string folder = golden_model("llama");
  const auto refused = [&](const std::function<void(TensorMap&)>& change) {
    ForwardRequest request = forward_request(folder);
    change(request.inputs);
    return refusal_of(request);
  };
  EXPECT_THAT(refused([](TensorMap& in) { in.erase("input_ids"); }),
              HasSubstr("tensor \"input_ids\" is missing"));
  EXPECT_THAT(refused([](TensorMap& in) { in["pixel_values"] = at::zeros({1}); }),
              AllOf(HasSubstr("\"pixel_values\" is not an input"), HasSubstr("attention_mask")));
  EXPECT_THAT(refused([](TensorMap& in) { in["labels"] = in["labels"].narrow(1, 0, 4); }),
              HasSubstr("\"labels\" is [2,4], expected [2,23]"));
  EXPECT_THAT(refused([](TensorMap& in) { in["input_ids"] = in["input_ids"].to(at::kFloat); }),
              HasSubstr("\"input_ids\" is of type F32, expected a whole-number type"));
  EXPECT_THAT(refused([](TensorMap& in) { in["input_ids"][0][3] = 61; }),
              HasSubstr("\"input_ids\" has 61, expected ids below vocab_size = 61"));
  ForwardRequest request = forward_request(folder);
  request.inputs.erase("labels");
  request.with_gradients = true;
  EXPECT_THAT(refusal_of(request), HasSubstr("\"labels\" is missing, and gradients are"));
}

}  // namespace
}  // namespace espalier
