// What the models of a run make of some inputs, for export_test.py, which builds them again in
// Python from the exported weights.
//
//   dump_outputs RUN OUT.safetensors
#include <cstdio>
#include <exception>

#include <torch/torch.h>

#include "models/weights/safetensors.h"
#include "trainer/inference.h"
#include "trainer/models/residual_image_tokenizer.h"
#include "trainer/models/sequences.h"
#include "trainer/models/y_decoder.h"

namespace espalier {
namespace {

TensorMap outputs_of(const InferenceRun& run) {
  const torch::NoGradGuard no_grad;
  auto& y = run.things->model_as<YDecoder>("y", "the test");
  ImageTokenizer& tokenizer = y.image_tokenizer().module();
  const int64_t size = tokenizer->options().image_size;
  torch::manual_seed(3);
  const at::Tensor images = torch::rand({4, 3, size, size}) * 2 - 1;
  const ImageCodes seen = encode_images(tokenizer, images, 1);
  const std::vector<int64_t> prompt = {kPicture, y.text().tokens().caption},
                             answer = y.encode("red apple");
  SequencePacker packer(y.text().tokens(), y.image_positions());
  for (int64_t i = 0; i < images.size(0); ++i) packer.add_read(prompt, answer);
  TokenRows rows = packer.rows();
  y.set_image_inputs(rows, seen.codes[0], seen.semantics[0]);
  const int64_t branch = y.module()->branch_index("understanding");
  const at::Tensor logits = y.module()->text_logits(y.module()->hidden(rows, branch), branch);
  return {{"images", images},
          {"codes", seen.codes[0].to(at::kLong)},
          {"pixels", tokenizer->decode_pixels(seen.codes[0].to(at::kLong)).contiguous()},
          {"text_ids", rows.text_ids.view({images.size(0), -1})},
          {"code_sums", rows.code_sums},
          {"semantics", rows.semantics},
          {"logits", logits.to(at::kFloat)}};
}

}  // namespace
}  // namespace espalier

int main(int argc, char** argv) {
  if (argc != 3) {
    std::fputs("usage: dump_outputs RUN OUT.safetensors\n", stderr);
    return 64;
  }
  try {
    espalier::write_safetensors(
        argv[2], espalier::outputs_of(espalier::load_for_inference({.run = argv[1]})));
  } catch (const std::exception& error) {
    std::fprintf(stderr, "dump_outputs: %s\n", error.what());
    return 1;
  }
  return 0;
}
