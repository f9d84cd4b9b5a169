NAME = "of another layer"
