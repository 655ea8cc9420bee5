"""The report: one self-contained HTML page of a comparison."""

from compare.report.page import write_report

__all__ = ["write_report"]
