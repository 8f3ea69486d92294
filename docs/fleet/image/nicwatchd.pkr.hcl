# An AMI with nicwatchd in it: packer init . && packer build -var repository=/path/to/build/repository .
packer {
  required_plugins {
    amazon  = { source = "github.com/hashicorp/amazon", version = ">= 1.3.0" }
    ansible = { source = "github.com/hashicorp/ansible", version = ">= 1.1.0" }
  }
}

variable "repository" {
  type        = string
  description = "What `make repository` wrote."
}

source "amazon-ebs" "debian" {
  ami_name      = "nicwatchd-${formatdate("YYYYMMDDhhmmss", timestamp())}"
  instance_type = "t3.micro"
  ssh_username  = "admin"
  source_ami_filter {
    filters     = { name = "debian-13-amd64-*", virtualization-type = "hvm" }
    owners      = ["136693071363"] # Debian
    most_recent = true
  }
}

build {
  sources = ["source.amazon-ebs.debian"]

  provisioner "ansible" {
    playbook_file   = "${path.root}/ansible/playbook.yml"
    extra_arguments = ["-e", "nicwatchd_bake=true", "-e", "nicwatchd_repository=${var.repository}"]
  }

  # Each host of the image gets an identity and a journal of its own.
  provisioner "shell" {
    script          = "${path.root}/forget"
    execute_command = "sudo sh {{ .Path }}"
  }
}
