"""What a pre-trained model is judged by, on clips it never saw: retrieval, reconstruction, pictures."""
