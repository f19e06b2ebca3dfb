"""What does the store have of the experiments of a report, and what is missing or damaged?"""
