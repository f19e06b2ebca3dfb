"""What did I ask for? From a YAML file to trials and jobs with every setting resolved."""
