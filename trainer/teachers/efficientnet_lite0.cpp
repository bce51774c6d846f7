// Kind "efficientnet_lite0" of a teacher.
#include "models/teachers/efficientnet_lite.h"
#include "models/weights/safetensors.h"
#include "trainer/registry.h"

namespace espalier {

void add_efficientnet_lite0(Registry& registry) {
  registry.add(
      TeacherKind{.name = "efficientnet_lite0",
                  .help = "EfficientNet-Lite0, trained on ImageNet: 1280 channels, stride 32.",
                  .make = [](const std::string& path) -> std::unique_ptr<Teacher> {
                    return std::make_unique<EfficientNetLite0>(read_safetensors(path), path);
                  }});
}

}  // namespace espalier
