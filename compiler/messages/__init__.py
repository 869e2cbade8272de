"""What is told to those who write programs: diagnostics, their codes and pages, words from elsewhere."""
