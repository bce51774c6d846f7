#pragma once

#include <string>

#include "launch/report/report_data.h"

namespace espalier {

// One self-contained page: style, charts and pictures inside, nothing fetched, no script.
std::string report_page(const ReportData& data);

// report.html and report.json in the run directory; returns the path of the page.
std::string write_report(const std::string& run_directory);

}  // namespace espalier
