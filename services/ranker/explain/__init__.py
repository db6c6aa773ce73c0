"""Why an answer is what it is: explanations of debug requests, captures, and their replay."""
