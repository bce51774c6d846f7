#pragma once

#include <string>
#include <vector>

#include "trainer/evaluation/finding.h"

namespace espalier {

// What was found out about a run, as a page and for the terminal (words and tables).
std::string findings_page(const std::string& title, const std::vector<Finding>& findings);
std::string findings_text(const std::vector<Finding>& findings);

}  // namespace espalier
