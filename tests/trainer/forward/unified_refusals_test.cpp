// What `espalier forward` says to inputs and exports that cannot be.
#include <filesystem>
#include <functional>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/torch.h>
#include <nlohmann/json.hpp>

#include "tests/trainer/forward/model_folder.h"
#include "tests/trainer/forward/unified_run.h"

namespace espalier {
namespace {

using nlohmann::json;
using ::testing::AllOf;
using ::testing::HasSubstr;

std::string reading(const std::function<void(TensorMap&)>& change) {
  ForwardRequest request = reading_request(unified_run().folder);
  change(request.inputs);
  return refusal_of(request);
}

std::string drawing(const std::function<void(TensorMap&)>& change) {
  ForwardRequest request = drawing_request(unified_run().folder);
  change(request.inputs);
  return refusal_of(request);
}

TEST(UnifiedInputs, OfWrongNamesShapesAndTypesAreNamed) {
  EXPECT_THAT(reading([](TensorMap& in) { in["position_ids"] = in["input_ids"]; }),
              AllOf(HasSubstr("in.safetensors: tensor \"position_ids\" is not an input"),
                    HasSubstr("branch, input_ids, attention_mask, codes, labels")));
  EXPECT_THAT(reading([](TensorMap& in) { in.erase("input_ids"); }),
              HasSubstr("\"input_ids\" is missing"));
  EXPECT_THAT(reading([](TensorMap& in) { in["input_ids"] = in["input_ids"].to(at::kFloat); }),
              HasSubstr("\"input_ids\" is of type F32, expected a whole-number type"));
  EXPECT_THAT(reading([](TensorMap& in) { in["input_ids"] = in["input_ids"][0]; }),
              HasSubstr("\"input_ids\" is [5], expected"));
  EXPECT_THAT(reading([](TensorMap& in) { in["labels"] = in["labels"].narrow(1, 0, 4); }),
              HasSubstr("\"labels\" is [2,4], expected [2,5]"));
  EXPECT_THAT(reading([](TensorMap& in) {
                in["codes"] = in["codes"].narrow(2, 0, UnifiedSizes::pixel_stages);
              }),
              AllOf(HasSubstr("\"codes\" is [3,64,4], expected"), HasSubstr("64,6]")));
  EXPECT_THAT(reading([](TensorMap& in) { in["codes"] = in["codes"].to(at::kHalf); }),
              HasSubstr("\"codes\" is of type F16"));
}

TEST(UnifiedInputs, OfABranchThatIsNotThereAreToldThoseThereAre) {
  for (const int64_t wrong : {-1, 2}) {
    EXPECT_THAT(reading([&](TensorMap& in) { in["branch"] = torch::tensor({wrong}); }),
                HasSubstr("\"branch\" has " + std::to_string(wrong) +
                          ", expected one of 0 = generation (codes), 1 = understanding (text)"));
  }
  EXPECT_THAT(reading([](TensorMap& in) { in.erase("branch"); }),
              HasSubstr("\"branch\" is missing"));
  EXPECT_THAT(reading([](TensorMap& in) {
                in["branch"] = torch::tensor({0, 1});
              }),
              HasSubstr("\"branch\" is [2], expected [1]"));
}

TEST(UnifiedInputs, OutOfRangeAreNamedWithTheRange) {
  EXPECT_THAT(reading([](TensorMap& in) { in["input_ids"][0][1] = 320; }),
              HasSubstr("\"input_ids\" has 320, expected -1 (a picture) or ids below the "
                        "vocabulary of 320"));
  EXPECT_THAT(reading([](TensorMap& in) { in["input_ids"][0][1] = -2; }),
              HasSubstr("\"input_ids\" has -2, expected -1"));
  EXPECT_THAT(reading([](TensorMap& in) { in["codes"][2][63][5] = 16; }),
              HasSubstr("\"codes\" has 16, expected codes from 0 to 15"));
  EXPECT_THAT(drawing([](TensorMap& in) { in["codes"][0][0][0] = -1; }),
              HasSubstr("\"codes\" has -1, expected codes from 0 to 15"));
  EXPECT_THAT(reading([](TensorMap& in) { in["labels"][0][2] = 320; }),
              HasSubstr("\"labels\" has 320, expected -100 or ids below"));
}

TEST(UnifiedInputs, WithAnotherNumberOfPicturesAreToldBothNumbers) {
  EXPECT_THAT(reading([](TensorMap& in) { in["codes"] = random_codes(2); }),
              HasSubstr("\"codes\" has 2 pictures, expected 3, as many as input_ids has of -1"));
  EXPECT_THAT(drawing([](TensorMap& in) { in["codes"] = random_codes(4); }),
              HasSubstr("\"codes\" has 4 pictures, expected 3"));
  EXPECT_THAT(reading([](TensorMap& in) { in.erase("codes"); }), HasSubstr("\"codes\" is missing"));
}

TEST(UnifiedInputs, WithPaddingElsewhereThanOnTheRightAreRefused) {
  EXPECT_THAT(reading([](TensorMap& in) { in["attention_mask"][0][2] = 0; }),
              HasSubstr("\"attention_mask\" has a 1 behind a 0"));
  EXPECT_THAT(reading([](TensorMap& in) { in["attention_mask"][1].zero_(); }),
              HasSubstr("\"attention_mask\" has a sequence of padding alone"));
}

TEST(UnifiedInputs, WithLabelsWhereNoneCanBeAreRefused) {
  EXPECT_THAT(reading([](TensorMap& in) { in["labels"][1][2] = 4; }),
              HasSubstr("\"labels\" has one where input_ids has a picture (-1)"));
  EXPECT_THAT(reading([](TensorMap& in) { in["labels"].fill_(-100); }),
              HasSubstr("\"labels\" has nothing but -100"));
  EXPECT_THAT(reading([](TensorMap& in) {
                set_sequences({{-1, 5, 6, 7, 8}, {9}}, in);
                in["codes"] = random_codes(1);
              }),
              HasSubstr("\"labels\" asks for a token that only padding comes before"));
  EXPECT_THAT(drawing([](TensorMap& in) { in["labels"] = at::full_like(in["input_ids"], -100); }),
              HasSubstr("\"labels\" is not read by branch generation"));
  ForwardRequest request = reading_request(unified_run().folder);
  request.inputs.erase("labels");
  request.with_gradients = true;
  EXPECT_THAT(refusal_of(request), HasSubstr("\"labels\" is missing, and gradients are"));
}

TEST(UnifiedInputs, OfABranchForCodesEndWithThePictureToDraw) {
  EXPECT_THAT(drawing([](TensorMap& in) {
                set_sequences({{5, 6, 7, -1}, {-1, -1, 8}}, in);
              }),
              HasSubstr("\"input_ids\" ends with token 8 in sequence 1, expected a picture (-1)"));
}

// What the forward of a spoiled copy of the export says.
std::string spoiled(const std::function<void(const ModelFolder&)>& spoil) {
  const ModelFolder folder(unified_run().folder);
  spoil(folder);
  return refusal_of(reading_request(folder.path()));
}

std::string with_config(const std::function<void(json&)>& change) {
  return spoiled([&](const ModelFolder& folder) { folder.change_config(change); });
}

std::string with_weights(const std::function<void(TensorMap&)>& change) {
  return spoiled([&](const ModelFolder& folder) { folder.change_weights(change); });
}

TEST(UnifiedFolder, OfAnotherFormatIsRefusedWithBothFormats) {
  EXPECT_THAT(with_config([](json& config) { config["format"] = "espalier-export-2"; }),
              AllOf(HasSubstr("config.json: format = \"espalier-export-2\""),
                    HasSubstr("expected \"espalier-export-1\"")));
  EXPECT_THAT(with_config([](json& config) { config.erase("format"); }),
              HasSubstr("config.json: format = (missing), expected"));
  EXPECT_THAT(with_config([](json& config) { config.erase("model_type"); }),
              HasSubstr("expected one of qwen2, llama, espalier_unified"));
}

TEST(UnifiedFolder, WithoutOneDecoderAndItsTokenizerNamesTheKey) {
  EXPECT_THAT(with_config([](json& config) { config.erase("models"); }),
              HasSubstr("config.json: models = (missing), expected"));
  EXPECT_THAT(with_config([](json& config) { config["models"]["z"] = config["models"]["y"]; }),
              HasSubstr("models of kind y_decoder = [\"y\",\"z\"], expected exactly one"));
  EXPECT_THAT(with_config([](json& config) { config["models"].erase("tokenizer"); }),
              HasSubstr("models.tokenizer = (missing), expected the settings of a residual"));
  EXPECT_THAT(with_config([](json& config) { config["models"]["y"]["image_tokenizer"] = "y"; }),
              HasSubstr("models.y.kind = \"y_decoder\", expected \"residual_image_tokenizer\""));
}

TEST(UnifiedFolder, WithSettingsThatCannotBeNamesFileKeyAndValue) {
  EXPECT_THAT(with_config([](json& config) { config["models"]["y"]["width"] = "wide"; }),
              AllOf(HasSubstr("config.json: model.y.width must be integer, got \"wide\"")));
  EXPECT_THAT(with_config([](json& config) { config["models"]["y"]["heads"] = 3; }),
              AllOf(HasSubstr("config.json: "), HasSubstr("model.y.")));
  EXPECT_THAT(with_config([](json& config) { config["models"]["y"]["depth"] = 3; }),
              HasSubstr("config.json: model.y.depth: there is no such setting"));
  EXPECT_THAT(with_config([](json& config) { config["models"]["y"]["branch"] = json::object(); }),
              HasSubstr("model.y has no branch"));
  EXPECT_THAT(with_config([](json& config) { config["models"]["y"]["backbone"] = "Qwen"; }),
              AllOf(HasSubstr("backbone-y/config.json: is missing"), HasSubstr("Qwen")));
}

TEST(UnifiedFolder, WithoutATensorOrWithOneTooManyNamesIt) {
  for (const char* name :
       {"y.text_embedding.weight", "y.trunk.0.down.weight",
        "y.branch.generation.depth.stage_embedding", "tokenizer.quantizer.codebooks",
        "tokenizer.semantic_decoder.from_latent.weight"}) {
    EXPECT_THAT(with_weights([&](TensorMap& weights) { weights.erase(name); }),
                HasSubstr("model.safetensors: has no tensor \"" + std::string(name) + "\""));
  }
  EXPECT_THAT(with_weights([](TensorMap& weights) { weights["y.more"] = at::zeros({1}); }),
              HasSubstr("tensor \"y.more\" has no place in the decoder"));
  EXPECT_THAT(with_config([](json& config) { config["models"]["y"]["feed_forward_width"] = 40; }),
              AllOf(HasSubstr("tensor \"y."), HasSubstr("the model's configuration asks for")));
  // What a decoder does not ask its tokenizer for may be missing.
  EXPECT_EQ(with_weights([](TensorMap& weights) { weights.erase("tokenizer.to_latent.weight"); }),
            "");
}

}  // namespace
}  // namespace espalier
