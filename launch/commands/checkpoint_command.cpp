#include <cstdio>

#include "launch/commands/commands.h"
#include "launch/commit.h"
#include "launch/protocol/failure_class.h"
#include "trainer/export/decoder_export.h"
#include "trainer/export/run_export.h"
#include "trainer/export/weight_shards.h"

namespace espalier {

int run_checkpoint_export(const ExportArguments& arguments) {
  ExportRequest request;
  request.run = arguments.run;
  request.checkpoint = {arguments.checkpoint.step, arguments.checkpoint.is_best};
  if (arguments.averages) request.weights = WeightChoice::kAverages;
  if (arguments.raw) request.weights = WeightChoice::kRaw;
  request.max_shard_bytes = parse_size(arguments.max_shard_size, "--max-shard-size");
  request.to = arguments.to;
  request.commit = commit_of_program();
  const ExportResult result =
      arguments.decoder.empty() ? export_run(request) : export_decoder(request, arguments.decoder);
  std::fprintf(stderr, "using %s\n", result.checkpoint.c_str());
  for (const auto& file : result.files) std::printf("%s/%s\n", arguments.to.c_str(), file.c_str());
  std::printf("%lld tensors, %.1f MB\n", static_cast<long long>(result.tensors),
              static_cast<double>(result.bytes) / 1e6);
  return kExitDone;
}

}  // namespace espalier
