#pragma once

#include <string>

namespace espalier {

// The report's style sheet: light and dark by the reader's preference.
const std::string& report_style();

}  // namespace espalier
