"""Reads run folders only, and is the only room that draws."""

from instar.report.build import ReportPaths, build_report
from instar.report.demo_picture import build_demo_picture

__all__ = ["ReportPaths", "build_demo_picture", "build_report"]
